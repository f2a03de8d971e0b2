"""The pool of the psycopg project, psycopg_pool, behind the `Pool` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg_pool

from harness.clock import SYSTEM_CLOCK
from harness.errors import HarnessError
from harness.postgres.checkout import LedgerPool, arguments_for, prewarm_error
from harness.postgres.connect import connect
from harness.postgres.pool import PoolStats

if TYPE_CHECKING:
    import psycopg

    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import Server

PREWARM_WORKERS_MAX = 8
PREWARM_POLL_S = 0.005
# With timeout 0 an idle connection may be snatched by another thread between
# look and take; the library gives nothing at all for a timeout of exactly 0.
SNATCH_TIMEOUT_S = 0.05
CLOSE_TIMEOUT_S = 5.0


class PsycopgPool(LedgerPool):
    """psycopg_pool's ConnectionPool, opened and warm when constructed.

    The library retries a refused login in the background and shows the caller
    only a timeout. Here the first connection is made in the foreground, so that
    a wrong password, role or database is an error at once; a connection refused
    later is the reason given when a checkout times out.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.

    Raises:
        TargetError: The server refused a connection, with its reason.
        CredentialError: No password could be had.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "psycopg"
    ) -> None:
        super().__init__(name=name, config=config)
        self._server = server
        self._refused: tuple[int, HarnessError] | None = None
        connect(arguments_for(server, config)).close()
        self._pool: psycopg_pool.ConnectionPool[psycopg.Connection[Any]] = (
            psycopg_pool.ConnectionPool(
                # The pool only calls `.connect` on it: one place that makes fresh
                # arguments, connects, and keeps the reason of a refusal.
                connection_class=cast("Any", _Connector(self)),
                min_size=config.size_min,
                max_size=config.size_max,
                timeout=config.checkout_timeout_s,
                max_lifetime=config.lifetime_max_s,
                num_workers=max(3, min(config.size_min, PREWARM_WORKERS_MAX)),
                name=name,
                open=False,
            )
        )
        self._pool.open()
        try:
            self._prewarm()
        except BaseException:
            self.close()
            raise

    def stats(self) -> PoolStats:
        """Return the live state."""
        in_use = self.in_use
        idle = self._pool.get_stats()["pool_available"]
        return PoolStats(
            size=idle + in_use,
            size_max=self.config.size_max,
            in_use=in_use,
            idle=idle,
            waiting=self.waiting,
        )

    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        self._closed = True
        self._pool.close(timeout=CLOSE_TIMEOUT_S)

    def _borrow(self) -> tuple[Any, Any]:
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        timeout_s = self.config.checkout_timeout_s or self._no_wait_timeout_s()
        if not timeout_s:
            raise self._timeout_error(since_ns=started_ns)
        try:
            connection = self._pool.getconn(timeout=timeout_s)
        except psycopg_pool.PoolTimeout:
            if self._refused and self._refused[0] >= started_ns:
                raise self._refused[1] from None
            raise self._timeout_error(since_ns=started_ns) from None
        except psycopg_pool.PoolClosed:
            raise self._closed_error() from None
        return connection, connection

    def _give_back(self, handle: Any) -> None:
        self._pool.putconn(handle)

    def _prewarm(self) -> None:
        """Wait for `size_min` connections, which the pool's workers are opening.

        The library's own wait would go on to its end after a refusal.
        """
        waited_s = 0.0
        while (opened := self.stats().idle) < self.config.size_min:
            if self._refused:
                raise self._refused[1]
            if waited_s >= self.config.prewarm_timeout_s:
                raise prewarm_error(self, opened=opened)
            SYSTEM_CLOCK.sleep(PREWARM_POLL_S)
            waited_s += PREWARM_POLL_S

    def _no_wait_timeout_s(self) -> float:
        """How long a checkout that must not wait for others may take."""
        stats = self._pool.get_stats()
        if stats["pool_available"]:
            return SNATCH_TIMEOUT_S
        if stats["pool_size"] < self.config.size_max:
            # Opening a connection is not waiting for one to come back.
            return self.config.connect_timeout_s
        return 0.0


class _Connector:
    """Stands where psycopg_pool expects a connection class."""

    def __init__(self, pool: PsycopgPool) -> None:
        self._pool = pool

    def connect(self, _conninfo: str, **_kwargs: Any) -> psycopg.Connection[Any]:
        pool = self._pool
        try:
            return connect(arguments_for(pool._server, pool.config))  # noqa: SLF001
        except HarnessError as error:
            pool._refused = (SYSTEM_CLOCK.monotonic_ns(), error)  # noqa: SLF001
            raise
