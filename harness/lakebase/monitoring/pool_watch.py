"""A pool seen from outside: its figures now, since the start, and of late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.lakebase.monitoring.times import SLOTS_PER_WINDOW, difference, total_ns
from harness.load.histogram import LogLinearHistogram
from harness.postgres.pool import PoolMetrics, PoolStats

if TYPE_CHECKING:
    from harness.postgres.pool import PoolConfig


class WatchedPool(Protocol):
    """What watching asks of a pool; every pool of ours has it."""

    name: str
    config: PoolConfig

    def stats(self) -> PoolStats:
        """Return the live state."""
        ...

    def metrics(self) -> PoolMetrics:
        """Return totals and distributions since the pool was opened."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolView:
    """What is known of a pool at one moment.

    Attributes:
        name: Its name.
        size_kept: Connections it keeps open.
        stats: Its live state.
        whole: Its totals since the watch began or was reset.
        recent: The same of the last window.
        recent_s: Length of that window, in seconds; shorter at the start.
    """

    name: str
    size_kept: int
    stats: PoolStats
    whole: PoolMetrics
    recent: PoolMetrics
    recent_s: float

    @property
    def utilization_pct(self) -> float:
        """Connections in use of those the pool may have, 0 to 100.

        Of its hard bound: a pool that has used up the connections it keeps, but
        may open more, is not full.
        """
        return 100 * self.stats.in_use / self.stats.size_max

    def as_connection_pool(self) -> dict[str, Any]:
        """Return the section `connection_pool` of a performance summary."""
        whole = self.whole
        return {
            "pool_size": self.size_kept,
            "max_overflow": self.stats.size_max - self.size_kept,
            "active_connections": self.stats.in_use,
            "idle_connections": self.stats.idle,
            "overflow_connections": max(0, self.stats.size - self.size_kept),
            "waiting_callers": self.stats.waiting,
            "total_checkouts": whole.checkouts_count,
            "total_checkins": whole.checkins_count,
            "checkout_timeouts": whole.checkout_timeouts_count,
            "connection_errors": whole.connect_failures_count,
            "connections_opened": whole.opened_count,
            "connections_closed": whole.closed_count,
            "leaks": whole.leaks_count,
            "average_checkout_time_ms": mean_ms(whole.checkout_wait),
            "utilization_rate": self.utilization_pct,
        } | {
            f"checkout_time_ms_{key}": quantile_ms(self.recent.checkout_wait, q)
            for key, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        }


class PoolWatch:
    """Keeps states of a pool's totals, so that a window of them can be told.

    Args:
        pool: The pool.
        window_s: Length of the window, in seconds.
        clock: Tells when a state was kept.
    """

    def __init__(
        self, pool: WatchedPool, *, window_s: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._window_ns = int(window_s * NS_PER_S)
        self._step_ns = self._window_ns // SLOTS_PER_WINDOW
        self._lock = Lock()
        first = (clock.monotonic_ns(), pool.metrics())
        self._since = first
        # One state a step, so that memory is bounded however often it is asked; the
        # oldest is the one just before the window.
        self._states: deque[tuple[int, PoolMetrics]] = deque([first])

    def collect(self) -> PoolView:
        """Look at the pool, and keep what the window needs."""
        pool = self._pool
        stats, metrics = pool.stats(), pool.metrics()
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            states = self._states
            if now_ns - states[-1][0] >= self._step_ns:
                states.append((now_ns, metrics))
            while len(states) > 1 and now_ns - states[1][0] >= self._window_ns:
                states.popleft()
            begun_ns, begun = states[0]
            _, base = self._since
        return PoolView(
            name=pool.name,
            size_kept=pool.config.size_min,
            stats=stats,
            whole=between(metrics, base),
            recent=between(metrics, begun),
            recent_s=(now_ns - begun_ns) / NS_PER_S,
        )

    def reset(self) -> None:
        """Begin to count from here."""
        first = (self._clock.monotonic_ns(), self._pool.metrics())
        with self._lock:
            self._since = first
            self._states = deque([first])


def between(newer: PoolMetrics, older: PoolMetrics) -> PoolMetrics:
    """Return what happened between two states of one pool's totals."""
    parts: dict[str, Any] = {}
    for part in fields(PoolMetrics):
        new, old = getattr(newer, part.name), getattr(older, part.name)
        is_histogram = isinstance(new, LogLinearHistogram)
        parts[part.name] = difference(new, old) if is_histogram else new - old
    return PoolMetrics(**parts)


def mean_ms(histogram: LogLinearHistogram) -> float | None:
    """Return the mean in milliseconds, within 0.4 %; None of an empty one."""
    if not len(histogram):
        return None
    return total_ns(histogram) / len(histogram) / NS_PER_MS


def quantile_ms(histogram: LogLinearHistogram, q: float) -> float | None:
    """Return a quantile in milliseconds; None of an empty histogram."""
    return histogram.quantile(q) / NS_PER_MS if len(histogram) else None
