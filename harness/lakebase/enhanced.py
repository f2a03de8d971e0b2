"""The pool with the method names and status keys that older code knows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

    from harness.postgres.checkout import Checkout
    from harness.postgres.pool import PoolMetrics, PoolStats
    from harness.postgres.slot_pool import SlotPool


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
    """`get_connection` and `return_connection` over a pool.

    Args:
        pool: Serves the connections; closed by `close_all`.
    """

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        self._lock = threading.Lock()
        self._out: dict[Any, Checkout] = {}

    def get_connection(self, timeout: float | None = None) -> Any:
        """Borrow a connection; give it back with `return_connection`.

        Args:
            timeout: Longest wait in seconds; 0 does not wait at all, None takes the
                pool's.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        checkout = self.pool.checkout(timeout)
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
                f"{self.pool.name!r}; it was returned already, or is another pool's"
            )
            raise ConfigError(msg)
        checkout.__exit__(None, None, None)

    def get_pool_status(self) -> dict[str, Any]:
        """Return the state under the original keys."""
        pool = self.pool
        return pool_status(pool.stats(), pool.metrics(), pool_size=pool.config.size_min)

    def close_all(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        self.pool.close()

    def __enter__(self) -> Self:
        """Return the pool; it is closed at the end of the block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the pool."""
        self.close_all()
