"""What a service, or a pool alone, says of itself now, in the shape of live updates."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from harness.clock import SYSTEM_CLOCK, Clock
from harness.lakebase.monitoring.performance import PerformanceMonitor
from harness.lakebase.monitoring.pool_watch import PoolWatch, quantile_ms
from harness.reports.live import (
    LiveComponent,
    LiveData,
    LiveError,
    LiveErrors,
    LiveHealth,
    LivePool,
    LiveTimes,
    LiveToken,
)

if TYPE_CHECKING:
    from harness.lakebase.monitoring.health_report import HealthReport
    from harness.lakebase.monitoring.pool_watch import PoolView, WatchedPool
    from harness.lakebase.service import LakebaseService
    from harness.load.histogram import LogLinearHistogram
    from harness.postgres.server import Server

RECENT_ERRORS_MAX = 10
SHOWN_WINDOW_S = 10.0
# Of a run that is measured: nobody sees a percentile of 10 s change more often.
TIMES_EVERY_NS = 900_000_000


class ServiceFigures:
    """Everything a service knows; asking waits for no check and no server.

    Durations are those of the last seconds: what a person who watches wants to see.

    Args:
        service: A service that is started.
    """

    def __init__(self, service: LakebaseService) -> None:
        self._service = service
        self._watch = PoolWatch(service.pool, window_s=SHOWN_WINDOW_S)

    def live(self) -> LiveData:
        """Return what is so now."""
        service = self._service
        performance = service.performance
        pool = live_pool(self._watch.collect())
        return LiveData(
            health=live_health(service.health.latest if service.health else None),
            pool=pool,
            pools=(pool,),
            performance=performance.summary() if performance else None,
            errors=live_errors(performance),
            token=live_token(service.server),
        )


class PoolFigures:
    """The same of a pool alone, which an application made itself.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: WatchedPool, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._pool = pool
        self._clock = clock
        self._watch = PoolWatch(pool, window_s=SHOWN_WINDOW_S, clock=clock)
        self._last: tuple[int, LivePool] | None = None

    @cached_property
    def performance(self) -> PerformanceMonitor:
        """Its figures under the keys of a service."""
        return PerformanceMonitor(self._pool)

    def pool(self) -> LivePool:
        """Return the pool alone; totals and times may be a second old.

        A run that is watched pays for no more: they take a hundred times as long
        as the connections in use, and all callers wait for the interpreter.
        """
        now_ns = self._clock.monotonic_ns()
        if self._last is None or now_ns - self._last[0] >= TIMES_EVERY_NS:
            self._last = (now_ns, live_pool(self._watch.collect()))
            return self._last[1]
        stats = self._pool.stats()
        return self._last[1].model_copy(
            update={
                "in_use": stats.in_use,
                "idle": stats.idle,
                "waiting": stats.waiting,
                "size": stats.size,
                "utilization_rate": 100 * stats.in_use / stats.size_max,
            }
        )

    def live(self) -> LiveData:
        """Return what is so now."""
        pool = live_pool(self._watch.collect())
        return LiveData(
            pool=pool,
            pools=(pool,),
            performance=self.performance.summary(),
            errors=live_errors(self.performance),
        )


def live_pool(view: PoolView) -> LivePool:
    """Return a pool's figures; durations are those of the last window."""
    stats, whole, recent = view.stats, view.whole, view.recent
    return LivePool(
        name=view.name,
        in_use=stats.in_use,
        idle=stats.idle,
        waiting=stats.waiting,
        size=stats.size,
        size_kept=view.size_kept,
        size_max=stats.size_max,
        utilization_rate=view.utilization_pct,
        checkouts_total=whole.checkouts_count,
        checkins_total=whole.checkins_count,
        checkout_timeouts_total=whole.checkout_timeouts_count,
        connection_errors_total=whole.connect_failures_count,
        leaks_total=whole.leaks_count,
        opened_total=whole.opened_count,
        closed_total=whole.closed_count,
        checkout_wait=_times(recent.checkout_wait),
        usage_time=_times(recent.usage_time),
        connect_time=_times(recent.connect_time),
    )


def live_health(report: HealthReport | None) -> LiveHealth | None:
    """Return the last report, if anybody has looked yet."""
    if report is None:
        return None
    return LiveHealth(
        status=report.status.value,
        overall_status=report.status.value,
        timestamp=report.timestamp,
        components={
            health.component: LiveComponent(
                component=health.component,
                status=health.status.value,
                message=health.message,
                response_time_ms=health.response_time_ms,
                timestamp=health.timestamp,
                details=health.details,
            )
            for health in report.components
        },
    )


def live_errors(performance: PerformanceMonitor | None) -> LiveErrors:
    """Return failed operations by category, and the last ones, newest first."""
    if performance is None:
        return LiveErrors()
    counts = performance.errors()
    return LiveErrors(
        total_errors=counts.total(),
        error_counts_by_category=dict(counts),
        recent_errors=tuple(
            LiveError(
                timestamp=event.timestamp,
                category=event.category.value,
                severity=event.severity.value,
                operation=event.operation,
                message=event.message,
            )
            for event in performance.error_events[: -RECENT_ERRORS_MAX - 1 : -1]
        ),
    )


def live_token(server: Server) -> LiveToken | None:
    """Return the state of the credential, of a database that has one."""
    from harness.lakebase.target import LakebaseServer

    if not isinstance(server, LakebaseServer):
        return None
    status = server.credential_status()
    return LiveToken(
        minted_at=status.minted_at,
        age_s=status.age_s,
        expires_at=status.expires_at,
        next_refresh_at=status.next_refresh_at,
        minted_total=status.mints_count,
        failures_total=status.failures_count,
    )


def _times(histogram: LogLinearHistogram) -> LiveTimes:
    return LiveTimes(
        count=len(histogram),
        p50_ms=quantile_ms(histogram, 0.5),
        p95_ms=quantile_ms(histogram, 0.95),
        p99_ms=quantile_ms(histogram, 0.99),
    )
