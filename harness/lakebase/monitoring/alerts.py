"""When the figures of a pool and its operations deserve attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.lakebase.monitoring.pool_watch import PoolView
    from harness.lakebase.monitoring.times import Times


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertThresholds:
    """From where on an alert is raised; each looks at the last window only.

    Attributes:
        slow_query_ms: Average duration of an operation; twice it is high.
        error_rate_percent: Failed share of an operation; twice it is high.
        requests_min: Fewer operations than this say nothing of a share.
        utilization_percent: Connections in use of those the pool may have.
        utilization_high_percent: From here on that is high.
    """

    slow_query_ms: float = 5000.0
    error_rate_percent: float = 5.0
    requests_min: int = 10
    utilization_percent: float = 90.0
    utilization_high_percent: float = 95.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                msg = f"{name} must be > 0, got {getattr(self, name)}"
                raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One thing that deserves attention.

    Attributes:
        type: "high_error_rate", "slow_operation", "high_pool_utilization" or
            "connection_checkout_timeouts".
        severity: How much.
        subject: The operation, or "connection_pool".
        value: The figure, in percent, milliseconds or a count.
        threshold: What it should not exceed.
        message: The same as a sentence.
    """

    type: str
    severity: Severity
    subject: str
    value: float
    threshold: float
    message: str


def alerts_of(
    operations: Mapping[str, Times],
    pool: PoolView | None,
    thresholds: AlertThresholds,
) -> tuple[Alert, ...]:
    """Return the alerts that the last window gives reason for."""
    found = [
        alert
        for name, times in operations.items()
        for alert in _operation_alerts(name, times, thresholds)
    ]
    if pool is not None:
        found += _pool_alerts(pool, thresholds)
    return tuple(found)


def _operation_alerts(
    name: str, times: Times, thresholds: AlertThresholds
) -> Iterator[Alert]:
    if times.count >= thresholds.requests_min:
        limit = thresholds.error_rate_percent
        failed_pct = 100 * times.failed_count / times.count
        if failed_pct > limit:
            yield Alert(
                type="high_error_rate",
                severity=Severity.HIGH if failed_pct > 2 * limit else Severity.MEDIUM,
                subject=name,
                value=failed_pct,
                threshold=limit,
                message=f"{failed_pct:.1f} % of {times.count} {name} failed",
            )
    average_ms, limit_ms = times.average_ms, thresholds.slow_query_ms
    if average_ms is not None and average_ms > limit_ms:
        yield Alert(
            type="slow_operation",
            severity=Severity.HIGH if average_ms > 2 * limit_ms else Severity.MEDIUM,
            subject=name,
            value=average_ms,
            threshold=limit_ms,
            message=f"{name} takes {average_ms:.0f} ms on average",
        )


def _pool_alerts(pool: PoolView, thresholds: AlertThresholds) -> Iterator[Alert]:
    used_pct = pool.utilization_pct
    if used_pct > thresholds.utilization_percent:
        is_high = used_pct > thresholds.utilization_high_percent
        yield Alert(
            type="high_pool_utilization",
            severity=Severity.HIGH if is_high else Severity.MEDIUM,
            subject="connection_pool",
            value=used_pct,
            threshold=thresholds.utilization_percent,
            message=(
                f"{pool.stats.in_use} of {pool.stats.size_max} connections are in use"
            ),
        )
    timeouts_count = pool.recent.checkout_timeouts_count
    if timeouts_count:
        yield Alert(
            type="connection_checkout_timeouts",
            severity=Severity.HIGH,
            subject="connection_pool",
            value=timeouts_count,
            threshold=0,
            message=f"{timeouts_count} callers got no connection in time",
        )
