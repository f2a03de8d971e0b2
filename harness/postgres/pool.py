"""The pool under test: one small protocol over every pool implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from harness.load.histogram import LogLinearHistogram


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    """Size and timeouts of the pool under test.

    Attributes:
        size_min: Connections opened before the first measured checkout.
        size_max: Hard upper bound on open connections.
        checkout_timeout_s: Longest wait for a connection, in seconds; 0 means
            do not wait.
        connect_timeout_s: Longest wait for one new connection, in seconds.
        prewarm_timeout_s: Longest wait for all `size_min` connections, in seconds.
        statement_timeout_s: Longest statement, in seconds; 0 means no limit.
        lifetime_max_s: Age at which a connection is replaced, in seconds.
        application_name: Shown in `pg_stat_activity`.
    """

    size_min: int = 4
    size_max: int = 4
    checkout_timeout_s: float = 30.0
    connect_timeout_s: float = 10.0
    prewarm_timeout_s: float = 90.0
    statement_timeout_s: float = 0.0
    lifetime_max_s: float = 3000.0
    application_name: str = "lakegauge"

    def __post_init__(self) -> None:
        if self.size_min < 0:
            msg = f"size_min must be >= 0, got {self.size_min}"
            raise ConfigError(msg)
        if self.size_max < max(1, self.size_min):
            msg = (
                f"size_max must be >= max(1, size_min={self.size_min}), "
                f"got {self.size_max}"
            )
            raise ConfigError(msg)
        for name in ("checkout_timeout_s", "statement_timeout_s"):
            if getattr(self, name) < 0:
                msg = f"{name} must be >= 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        for name in ("connect_timeout_s", "prewarm_timeout_s", "lifetime_max_s"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be > 0, got {getattr(self, name)}"
                raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStats:
    """Live state and totals of a pool.

    Attributes:
        size: Connections open now.
        size_max: Hard upper bound on open connections.
        in_use: Connections checked out now.
        idle: Connections free now.
        waiting: Callers queued now; None where the engine does not tell.
    """

    size: int
    size_max: int
    in_use: int
    idle: int
    waiting: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolMetrics:
    """Totals and distributions of a pool since it was opened.

    The difference of two snapshots is an interval; histograms are in nanoseconds.

    Attributes:
        checkouts_count: Checkouts that got a connection.
        checkins_count: Connections given back.
        checkout_timeouts_count: Checkouts that ended with `CheckoutTimeoutError`.
        connect_failures_count: Attempts to connect that failed.
        opened_count: Connections opened.
        closed_count: Connections closed, for whatever reason.
        leaks_count: Checkouts that were held longer than the leak threshold.
        checkout_wait: Asked for until got, of every checkout.
        usage_time: Got until given back.
        connect_time: Time to open one connection.
        wake_time: The same, of those that had to wake a suspended server.
    """

    checkouts_count: int
    checkins_count: int
    checkout_timeouts_count: int
    connect_failures_count: int
    opened_count: int
    closed_count: int
    leaks_count: int
    checkout_wait: LogLinearHistogram
    usage_time: LogLinearHistogram
    connect_time: LogLinearHistogram
    wake_time: LogLinearHistogram


class Pool(Protocol):
    """A connection pool, whichever library is behind it.

    A connection is in autocommit mode: a statement is one transaction unless
    the caller opens one. It offers `execute(query, params)` as psycopg does.
    """

    name: str
    config: PoolConfig

    def checkout(self) -> AbstractContextManager[Any]:
        """Borrow a psycopg connection for the length of a `with` block.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        ...

    def stats(self) -> PoolStats:
        """Return the live state."""
        ...

    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        ...
