"""The pool under test: one small protocol over every pool implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from harness.load.histogram import LogLinearHistogram


AT_LEAST = {
    "checkout_timeout_s": 0,
    "statement_timeout_s": 0,
    "liveness_idle_s": 0,
    "leak_after_s": 0,
    "connect_concurrency": 1,
    "processes": 1,
}
BELOW_S = {
    "lifetime_max_s": (3 * 86_400, "Lakebase ends a connection after three days"),
    "idle_max_s": (86_400, "Lakebase ends an idle connection after 24 hours"),
}


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
        lifetime_max_s: Age at which a connection is replaced, in seconds; each gets
            90 to 100 % of it. Lakebase ends a connection after three days.
        idle_max_s: How long a connection may be idle, in seconds; then it is
            replaced, or closed if there are more than `size_min`. Lakebase ends it
            after 24 hours, and a suspended compute ends it at once.
        liveness_idle_s: A connection that was idle for longer, in seconds, answers
            a ping before it is given out; one that was not costs no round trip.
        leak_after_s: A checkout held for longer, in seconds, is reported with the
            stack that made it; 0 means never, and costs nothing.
        connect_concurrency: How many connections are opened at the same time.
        processes: How many processes open such a pool, for the connection budget.
        tls_required: Whether a connection without TLS is refused.
        plaintext_hosts: Hosts that are let through without TLS all the same.
        application_name: Shown in `pg_stat_activity`.
    """

    size_min: int = 4
    size_max: int = 4
    checkout_timeout_s: float = 30.0
    connect_timeout_s: float = 10.0
    prewarm_timeout_s: float = 90.0
    statement_timeout_s: float = 0.0
    lifetime_max_s: float = 3000.0
    idle_max_s: float = 3600.0
    liveness_idle_s: float = 1.0
    leak_after_s: float = 0.0
    connect_concurrency: int = 32
    processes: int = 1
    tls_required: bool = False
    plaintext_hosts: tuple[str, ...] = ()
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
        for name, low in AT_LEAST.items():
            if getattr(self, name) < low:
                msg = f"{name} must be >= {low}, got {getattr(self, name)}"
                raise ConfigError(msg)
        for name in ("connect_timeout_s", "prewarm_timeout_s"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be > 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        for name, (high, why) in BELOW_S.items():
            if not 0 < getattr(self, name) < high:
                msg = f"{name} must be > 0 and < {high} ({why})"
                msg += f", got {getattr(self, name)}"
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
        opening: Connections being opened now.
    """

    size: int
    size_max: int
    in_use: int
    idle: int
    waiting: int | None
    opening: int = 0


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
        wake_time: From the first attempt until open, of connections whose server
            says that it started meanwhile: it was suspended, and the login woke it,
            or it came back from a failover or a resize. A wake of less than 0.2 s
            that refused no login is not looked for.
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

    def checkout(self, timeout_s: float | None = None) -> AbstractContextManager[Any]:
        """Borrow a psycopg connection for the length of a `with` block.

        Args:
            timeout_s: Longest wait in seconds, 0 for none; default is the pool's
                `checkout_timeout_s`.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        ...

    def stats(self) -> PoolStats:
        """Return the live state."""
        ...

    def metrics(self) -> PoolMetrics:
        """Return totals and distributions since the pool was opened."""
        ...

    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        ...


class AsyncPool(Protocol):
    """The same for the tasks of one event loop."""

    name: str
    config: PoolConfig

    def checkout(self) -> AbstractAsyncContextManager[Any]:
        """Borrow an asynchronous psycopg connection for an `async with` block.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        ...

    def stats(self) -> PoolStats:
        """Return the live state."""
        ...

    def metrics(self) -> PoolMetrics:
        """Return totals and distributions since the pool was opened."""
        ...

    async def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        ...
