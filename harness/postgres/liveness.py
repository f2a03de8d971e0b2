"""Whether a connection and its server live, asked of libpq itself."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any

from psycopg.pq import ExecStatus, TransactionStatus

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK
from harness.errors import TargetError
from harness.postgres.classify import Phase, classify

if TYPE_CHECKING:
    import psycopg

# By the server's own clock alone: ours may differ.
UPTIME = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"


def lost_early(error: psycopg.Error) -> TargetError:
    """Say that a connection failed right after it was opened."""
    reason = type(error).__name__
    return TargetError(
        f"a connection failed as soon as it was open: {reason}",
        sqlstate=error.sqlstate,
        classification=classify(error, phase=Phase.CONNECT),
    )


def note(notice: Any, signs: list[str]) -> None:
    """Keep the code of a message that ends a connection; others are not our concern."""
    if notice.severity_nonlocalized in {"FATAL", "PANIC"}:
        signs.append(notice.sqlstate)


def is_quiet(pgconn: Any) -> bool:
    """Whether an idle connection has heard nothing of its end; costs no round trip.

    A server that ends a connection says so and closes the socket; both wait in the
    socket until somebody reads.
    """
    pgconn.consume_input()
    return not pgconn.is_busy() and (
        pgconn.transaction_status == TransactionStatus.IDLE
    )


def ping(pgconn: Any, *, timeout_s: float) -> bool:
    """Ask for an empty answer and wait for it, but not for ever."""
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(timeout_s * NS_PER_S)
    answer = Answer(pgconn)
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    while not answer.is_complete():
        left_ms = (deadline_ns - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_MS
        if left_ms <= 0 or not poll.poll(left_ms):
            return False
    return answer.is_expected


async def ping_async(pgconn: Any, *, timeout_s: float) -> bool:
    """Do what `ping` does without blocking the event loop."""
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(timeout_s * NS_PER_S)
    answer = Answer(pgconn)
    loop = asyncio.get_running_loop()
    while not answer.is_complete():
        readable = asyncio.Event()
        loop.add_reader(pgconn.socket, readable.set)
        left_s = (deadline_ns - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_S
        try:
            async with asyncio.timeout(left_s):
                await readable.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(pgconn.socket)
    return answer.is_expected


class Answer:
    """An empty query on its way, and what has come back of it.

    Args:
        pgconn: An idle connection of libpq.
    """

    def __init__(self, pgconn: Any) -> None:
        self.is_expected = False
        self._pgconn = pgconn
        pgconn.send_query(b"")
        pgconn.flush()

    def is_complete(self) -> bool:
        """Read what has arrived; whether that was all."""
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                return True
            self.is_expected = result.status == ExecStatus.EMPTY_QUERY
        return False
