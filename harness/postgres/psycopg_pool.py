"""Pools whose connections are psycopg's own."""

from __future__ import annotations

import logging
import select
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import TargetError
from harness.postgres.classify import Phase, classify
from harness.postgres.connect import connect
from harness.postgres.opening import arguments_for
from harness.postgres.slot_pool import SlotPool

if TYPE_CHECKING:
    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import Server

OPEN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)

logger = logging.getLogger(__name__)


class PsycopgEngine:
    """Opens connections with psycopg, each with arguments made for it alone.

    Args:
        server: Where to connect.
        config: Timeouts and application name.
    """

    def __init__(self, server: Server, config: PoolConfig) -> None:
        self._server = server
        self._config = config

    def open(self) -> tuple[psycopg.Connection[Any], None]:
        """Return a new connection."""
        arguments = arguments_for(self._server, self._config)
        return connect(arguments, timeout_s=self._config.connect_timeout_s), None

    def close(self, connection: psycopg.Connection[Any], _handle: Any) -> None:
        """Close a connection, dead or alive."""
        connection.close()

    def clean(self, connection: psycopg.Connection[Any]) -> bool:
        """Roll back what was left open; False if the connection is of no more use."""
        try:
            if connection.pgconn.transaction_status in OPEN_TRANSACTION:
                logger.warning("rolling back a transaction left open at checkin")
                connection.rollback()
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                if not connection.autocommit:
                    connection.autocommit = True
                return True
        except psycopg.Error:
            logger.warning("the rollback failed; discarding the connection")
        return False

    def is_alive(
        self, connection: psycopg.Connection[Any], *, timeout_s: float | None
    ) -> bool:
        """Look at what has arrived; with a timeout, ask for an answer too."""
        try:
            if timeout_s is not None:
                return ping(connection.pgconn, timeout_s=timeout_s)
            return is_quiet(connection.pgconn)
        except psycopg.Error:
            return False

    def listen(self, connection: psycopg.Connection[Any], signs: list[str]) -> None:
        """Add the SQLSTATE of whatever the server says unasked to *signs*."""
        connection.add_notice_handler(lambda notice: note(notice, signs))

    def inspect(self, connection: psycopg.Connection[Any]) -> None:
        """Check the server behind the first connection."""

    def uptime_s(self, connection: psycopg.Connection[Any]) -> float:
        """Ask how long the server has been up, in seconds."""
        try:
            row = connection.execute(UPTIME).fetchone()
        except psycopg.Error as error:
            raise lost_early(error) from None
        return float(row[0]) if row else 0.0


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
    pgconn.send_query(b"")
    pgconn.flush()
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    is_answered = False
    while True:
        pgconn.consume_input()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return is_answered
            is_answered = result.status == ExecStatus.EMPTY_QUERY
        left_ms = (deadline_ns - SYSTEM_CLOCK.monotonic_ns()) / 1_000_000
        if left_ms <= 0 or not poll.poll(left_ms):
            return False


class PsycopgPool(SlotPool):
    """A pool of psycopg connections, warm when constructed.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.

    Raises:
        TargetError: The server refused a connection, with its reason.
        ConfigError: The server cannot serve a pool of this size.
        CredentialError: No password could be had.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "psycopg"
    ) -> None:
        super().__init__(PsycopgEngine(server, config), config, name=name)
