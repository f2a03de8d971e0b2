"""What the live endpoints answer: one pydantic model per kind of response."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.reports.live import (  # pydantic reads them
    LiveAgent,
    LiveHealth,
    LiveStream,
    LiveTimes,
)

if TYPE_CHECKING:
    from typing import Self

    from harness.reports.live import LivePool


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Ack(_View):
    """What the WebSocket answers to a message."""

    type: Literal["ack"] = "ack"
    echo: str
    timestamp: datetime


class Ready(_View):
    """Whether there is something to show that works."""

    status: Literal["ready"] = "ready"


class HealthTrends(_View):
    """How it has been over the last hours."""

    period_hours: float
    total_checks: int
    availability_percent: float | None
    status_distribution: dict[str, int]
    latest_status: str | None
    trend: Literal["improving", "stable", "degrading", "insufficient_data"]


class HealthDetail(LiveHealth):
    """The last health report with its history; null where another process has it."""

    trends: HealthTrends | None = None


class RecentWindow(_View):
    """Operations of the last window."""

    window_seconds: float | None = None
    requests: int
    success_rate: float | None
    average_duration_ms: float | None
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    p99_duration_ms: float | None


class OperationStats(_View):
    """One kind of operation since the start; rates in percent."""

    operation: str
    total_requests: int
    successful_requests: int
    failed_requests: int
    success_rate: float | None
    average_duration_ms: float | None
    min_duration_ms: float
    max_duration_ms: float
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    p99_duration_ms: float | None
    errors_by_category: dict[str, int] = Field(default_factory=dict)
    slowest: dict[str, Any] | None = None
    recent: RecentWindow


class PerformanceAlert(_View):
    """One thing that deserves attention."""

    type: str
    severity: str
    operation: str
    value: float
    threshold: float
    message: str


class PerformanceView(_View):
    """Operations, pool and alerts."""

    uptime_seconds: float
    total_requests: int
    total_errors: int
    overall_success_rate: float | None
    recent_5min: RecentWindow
    operation_stats: dict[str, OperationStats]
    connection_pool: dict[str, float | None] | None
    performance_alerts: tuple[PerformanceAlert, ...]


class PoolStatus(_View):
    """A pool under the keys its users know.

    `available_connections` are those a caller gets without waiting: idle ones and
    those that may still be opened.
    """

    name: str
    pool_size: int
    max_overflow: int
    available_connections: int
    idle_connections: int
    active_connections: int
    overflow_connections: int
    waiting_callers: int | None
    utilization_rate: float
    total_created: int
    total_closed: int
    total_checkouts: int
    total_checkins: int
    checkout_timeouts: int
    connection_errors: int
    failed_connections: int
    leaks: int
    pool_initialized: bool = True
    checkout_wait: LiveTimes
    usage_time: LiveTimes
    connect_time: LiveTimes

    @classmethod
    def of(cls, pool: LivePool) -> Self:
        """Return the view of a live pool."""
        return cls(
            name=pool.name,
            pool_size=pool.size_kept,
            max_overflow=pool.size_max - pool.size_kept,
            available_connections=pool.size_max - pool.in_use,
            idle_connections=pool.idle,
            active_connections=pool.in_use,
            overflow_connections=max(0, pool.size - pool.size_kept),
            waiting_callers=pool.waiting,
            utilization_rate=pool.utilization_rate,
            total_created=pool.opened_total,
            total_closed=pool.closed_total,
            total_checkouts=pool.checkouts_total,
            total_checkins=pool.checkins_total,
            checkout_timeouts=pool.checkout_timeouts_total,
            connection_errors=pool.connection_errors_total,
            failed_connections=pool.connection_errors_total,
            leaks=pool.leaks_total,
            checkout_wait=pool.checkout_wait,
            usage_time=pool.usage_time,
            connect_time=pool.connect_time,
        )


class Streams(_View):
    """Streaming queries that report."""

    streams: tuple[LiveStream, ...]


class Agents(_View):
    """Agent endpoints that are timed."""

    agents: tuple[LiveAgent, ...]


class ConnectionTest(_View):
    """Whether a new connection can be made now, and how long it took."""

    success: bool
    response_time_ms: float
    server_version: str | None = None
    message: str


class QueryResult(_View):
    """What a statement returned; values as the server prints them."""

    success: Literal[True] = True
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    row_count: int
    truncated: bool
    response_time_ms: float


class SettingView(_View):
    """A setting; a secret is masked."""

    value: Any
    source: str


class ConfigView(_View):
    """Every setting and where it came from."""

    settings: dict[str, SettingView]
