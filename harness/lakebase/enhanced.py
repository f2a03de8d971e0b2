"""The pool with the method names and status keys that older code knows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.settings import load_settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from harness.lakebase.service import LakebaseService
    from harness.postgres.pool import PoolMetrics, PoolStats


def pool_status(
    stats: PoolStats, metrics: PoolMetrics, *, pool_size: int
) -> dict[str, Any]:
    """Return a pool's state under the original keys.

    Args:
        stats: The live state.
        metrics: Totals since the pool was opened.
        pool_size: Connections kept open; those above are overflow.
    """
    return {
        "pool_size": pool_size,
        "max_overflow": stats.size_max - pool_size,
        "available_connections": stats.idle,
        "active_connections": stats.in_use,
        "overflow_connections": max(0, stats.size - pool_size),
        # Of all it may open: a share of 0 to 1.
        "utilization_rate": stats.in_use / stats.size_max,
        "total_created": metrics.opened_count,
        "total_closed": metrics.closed_count,
        "total_checkouts": metrics.checkouts_count,
        "total_checkins": metrics.checkins_count,
        "checkout_timeouts": metrics.checkout_timeouts_count,
        "connection_errors": metrics.connect_failures_count,
        "failed_connections": metrics.connect_failures_count,
        "pool_initialized": True,
    }


class EnhancedPool:
    """`get_connection` and `return_connection` over a service with pool and monitors.

    Args:
        service: Opens the database, its pool and what watches them; ended by
            `close_all`.
    """

    def __init__(self, service: LakebaseService) -> None:
        self.service = service
        self._lock = threading.Lock()
        self._out: dict[Any, AbstractContextManager[Any]] = {}

    def initialize_pool(self) -> None:
        """Open the pool, warm; a second call changes nothing.

        Raises:
            ConfigError: A setting is missing or impossible.
            CredentialError: The workspace refuses.
            TargetError: The database refuses.
        """
        self.service.start()

    def get_connection(self, timeout: float | None = None) -> Any:
        """Borrow a connection; give it back with `return_connection`.

        Args:
            timeout: Longest wait in seconds; 0 does not wait at all, None takes the
                pool's.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason; or
                the pool is not initialized.
        """
        checkout = self.service.pool.checkout(timeout)
        connection = checkout.__enter__()
        with self._lock:
            self._out[connection] = checkout
        return connection

    def return_connection(self, connection: Any) -> None:
        """Give a connection back, dead or alive.

        Raises:
            ConfigError: It is not out of this pool.
        """
        with self._lock:
            checkout = self._out.pop(connection, None)
        if checkout is None:
            msg = (
                "return_connection: this connection is not out of pool "
                f"{self.service.pool.name!r}; it was returned already, or is "
                "another pool's"
            )
            raise ConfigError(msg)
        checkout.__exit__(None, None, None)

    def get_pool_status(self) -> dict[str, Any]:
        """Return the state under the original keys.

        Raises:
            TargetError: The pool is not initialized.
        """
        pool = self.service.pool
        return pool_status(pool.stats(), pool.metrics(), pool_size=pool.config.size_min)

    def get_performance_metrics(self) -> dict[str, Any] | None:
        """Return the performance summary; None where the settings switch it off."""
        return self.service.get_performance_metrics()

    def get_health_status(self) -> dict[str, Any] | None:
        """Return the last health report; None where the settings switch it off.

        Where there is none yet the checks run now, each with its own time limit.
        """
        health = self.service.health
        if health is None:
            return None
        return (health.latest or health.check_now()).as_dict()

    def close_all(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        self.service.stop()

    def __enter__(self) -> Self:
        """Return the pool, open; it is closed at the end of the block."""
        self.initialize_pool()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the pool."""
        self.close_all()


def create_enhanced_pool(config_file: str | Path | None = None) -> EnhancedPool:
    """Return an open pool, as the settings and a JSON file ask for.

    Environment and `.env` go before the file, as everywhere.

    Args:
        config_file: JSON file to read instead of `./lakegauge.json`.

    Raises:
        ConfigError: A setting is missing or impossible.
        CredentialError: The workspace refuses.
        TargetError: The database refuses.
    """
    from harness.lakebase.service import LakebaseService

    pool = EnhancedPool(LakebaseService(load_settings(config_file=config_file)))
    pool.initialize_pool()
    return pool
