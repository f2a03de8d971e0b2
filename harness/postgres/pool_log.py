"""What a pool tells the log: what happens to connections, never single operations."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK
from harness.postgres.classify import Phase, classify, classify_sqlstate
from harness.postgres.slots import line_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.clock import Clock
    from harness.errors import CheckoutTimeoutError
    from harness.postgres.slots import Leak, Slot

# In an outage callers fail by the thousand: one line speaks for all of a second.
LINE_INTERVAL_NS = NS_PER_S

logger = logging.getLogger(__name__)


class Teller:
    """Logs what comes as often as callers do: each kind at most once a second.

    Args:
        name: Name of the pool.
        clock: Spaces the lines.
    """

    def __init__(self, name: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._untold: Counter[str] = Counter()
        self._next_ns: dict[str, int] = {}

    def timed_out(self, error: CheckoutTimeoutError) -> None:
        """Tell of a caller that got no connection in time."""
        count = self._turn("pool.checkout")
        if count:
            logger.warning(
                "pool %r: no connection became free in time",
                self._name,
                extra={
                    "operation": "pool.checkout",
                    "duration_ms": round(error.waited_s * 1000, 3),
                    "category": str(classify(error).category),
                    "count": count,
                    "in_use": error.in_use,
                    "waiting": error.waiting,
                },
            )

    def refused(self, error: BaseException, *, asked_ns: int, attempt: int) -> None:
        """Tell of a connect or login that failed, without its text."""
        count = self._turn("pool.connect")
        if count:
            logger.warning(
                "pool %r: a connection could not be opened (%s)",
                self._name,
                type(error).__name__,
                extra={
                    "operation": "pool.connect",
                    "duration_ms": _since_ms(asked_ns),
                    "category": str(classify(error, phase=Phase.CONNECT).category),
                    "attempt": attempt + 1,
                    "sqlstate": getattr(error, "sqlstate", None),
                    "count": count,
                },
            )

    def _turn(self, operation: str) -> int:
        """Return of how many events the next line speaks; 0 if it is too early."""
        with self._lock:
            self._untold[operation] += 1
            now_ns = self._clock.monotonic_ns()
            if now_ns < self._next_ns.get(operation, now_ns):
                return 0
            self._next_ns[operation] = now_ns + LINE_INTERVAL_NS
            return self._untold.pop(operation)


def tell_opened(name: str, *, took_ns: int, woke_ns: int | None, attempt: int) -> None:
    """Log that a server was woken; at DEBUG, that a connection was opened."""
    fields: dict[str, Any] = {"attempt": attempt + 1}
    if woke_ns is not None:
        fields |= {"operation": "pool.wake", "duration_ms": _ms(woke_ns)}
        logger.info("pool %r woke the server", name, extra=fields)
    elif logger.isEnabledFor(logging.DEBUG):
        fields |= {
            "operation": "pool.connect",
            "duration_ms": _ms(took_ns),
        }
        logger.debug("pool %r: a connection is open", name, extra=fields)


def tell_drain(name: str, signs: Iterable[str], *, count: int) -> None:
    """Log that all connections of a server that is going away are replaced."""
    sqlstate = next(iter(signs), None)
    category = (
        classify_sqlstate(sqlstate, phase=Phase.CONNECT).category.value
        if sqlstate
        else None
    )
    logger.warning(
        "the server is going away; pool %r replaces its connections",
        name,
        extra={
            "operation": "pool.drain",
            "category": category,
            "sqlstate": sqlstate,
            "connections": count,
        },
    )


def tell_leaks(name: str, leaks: list[Leak]) -> None:
    """Log checkouts that last too long, with the stack that made them."""
    for leak in leaks:
        lines = [line_of(*place) for place in leak.stack]
        logger.warning(
            "pool %r: a connection has been out for %.1f s; checked out at\n  %s",
            name,
            leak.held_ns / NS_PER_S,
            "\n  ".join(lines),
            extra={"operation": "pool.leak", "duration_ms": _ms(leak.held_ns)},
        )


def tell_lost(name: str, lost: list[Slot]) -> None:
    """Log checkouts that nobody could have ended any more."""
    for slot in lost:
        where = line_of(*slot.place) if slot.place else "a place unknown"
        logger.warning(
            "pool %r: checkout lost by %s; taken back",
            name,
            where,
            extra={
                "operation": "pool.leak",
                "duration_ms": _since_ms(slot.acquired_ns),
            },
        )


def _since_ms(started_ns: int) -> float:
    return _ms(SYSTEM_CLOCK.monotonic_ns() - started_ns)


def _ms(duration_ns: int) -> float:
    return round(duration_ns / NS_PER_MS, 3)
