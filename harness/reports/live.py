"""What a run or an application says of itself while it works: one shape for all."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# History of the shape. A reader refuses a version newer than its own.
# 1: first.
LIVE_VERSION = 1

Status = Literal["healthy", "warning", "unhealthy", "critical"]


class _Live(BaseModel):
    # A newer writer may say more than this reader knows.
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")


class LiveComponent(_Live):
    """One component of a health report."""

    component: str
    status: Status
    message: str
    response_time_ms: float | None = None
    timestamp: datetime
    details: dict[str, Any] = Field(default_factory=dict)


class LiveHealth(_Live):
    """The last health report; `status` is the worst of its components."""

    status: Status
    overall_status: Status
    timestamp: datetime
    components: dict[str, LiveComponent] = Field(default_factory=dict)


class LiveTimes(_Live):
    """Durations of one kind of event, in milliseconds, over the last window."""

    count: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class LivePool(_Live):
    """A pool now.

    Attributes:
        name: Its name.
        in_use: Connections out.
        idle: Connections free.
        waiting: Callers queued; null where the engine does not tell.
        size: Connections open.
        size_kept: Connections it keeps open.
        size_max: Hard bound.
        utilization_rate: In use of `size_max`, 0 to 100.
        checkouts_total: Checkouts that got a connection; its growth is the rate.
        checkins_total: Connections given back.
        checkout_timeouts_total: Checkouts that got none in time.
        connection_errors_total: Attempts to connect that failed.
        leaks_total: Checkouts held too long.
        opened_total: Connections opened.
        closed_total: Connections closed, for whatever reason.
        checkout_wait: Asked for until got.
        usage_time: Got until given back: the response time of what was done with it.
        connect_time: Opening one connection.
    """

    name: str
    in_use: int
    idle: int
    waiting: int | None
    size: int
    size_kept: int
    size_max: int
    utilization_rate: float
    checkouts_total: int
    checkins_total: int
    checkout_timeouts_total: int
    connection_errors_total: int
    leaks_total: int
    opened_total: int
    closed_total: int
    checkout_wait: LiveTimes
    usage_time: LiveTimes
    connect_time: LiveTimes


class LiveError(_Live):
    """One error of late; `message` never holds a secret."""

    timestamp: datetime
    category: str
    severity: str | None = None
    operation: str | None = None
    message: str


class LiveErrors(_Live):
    """Errors since the start, and the last ones, newest first."""

    total_errors: int = 0
    error_counts_by_category: dict[str, int] = Field(default_factory=dict)
    recent_errors: tuple[LiveError, ...] = ()


class LiveToken(_Live):
    """A credential, without its secret."""

    minted_at: datetime | None = None
    age_s: float | None = None
    expires_at: datetime | None = None
    next_refresh_at: datetime | None = None
    minted_total: int = 0
    failures_total: int = 0


class LiveStream(_Live):
    """A streaming query's last progress; null where it does not say."""

    name: str
    batch_id: int | None = None
    input_rows_per_s: float | None = None
    processed_rows_per_s: float | None = None
    batch_duration_ms: float | None = None
    watermark_lag_s: float | None = None
    backlog_rows: int | None = None
    state_rows: int | None = None
    is_active: bool = True


class LiveAgent(_Live):
    """Timing of an agent endpoint."""

    name: str
    requests_total: int = 0
    errors_total: int = 0
    in_flight: int = 0
    ttft: LiveTimes | None = None
    end_to_end: LiveTimes | None = None


class LiveBenchmark(_Live):
    """How far a run of benchmarks is.

    Attributes:
        started_at: When it began, in UTC.
        state: "running", "complete", "interrupted" or "replay".
        case: Node id of the case at work; null between two.
        case_index: Its place, from 1.
        cases_total: Cases of the run.
        cases_done: Cases measured so far.
        cases_failed: Cases that did not pass.
    """

    started_at: datetime
    state: Literal["running", "complete", "interrupted", "replay"]
    case: str | None = None
    case_index: int | None = None
    cases_total: int | None = None
    cases_done: int = 0
    cases_failed: int = 0


class LiveLoad(_Live):
    """What a load does.

    Attributes:
        case: The case whose load it is.
        throughput_per_s: Operations completed in the last second, per second.
        response_time: Of those that completed in the last second, or of the last
            hundred if they were fewer.
        errors_total: Operations that failed so far.
        completed_total: Operations that completed so far.
        workers: Concurrent callers.
        in_flight: Those of them that are in an operation.
    """

    case: str
    throughput_per_s: float | None = None
    response_time: LiveTimes | None = None
    errors_total: int = 0
    completed_total: int = 0
    workers: int | None = None
    in_flight: int | None = None


class LiveData(_Live):
    """Everything at one moment; a part is null, or empty, where there is none.

    Attributes:
        health: The last health report.
        pool: The pool; the first where there are several.
        pools: All of them.
        performance: The performance summary, under the originals' keys.
        errors: By category, with the last ones.
        token: The credential at work.
        streams: Streaming queries.
        agents: Agent endpoints.
        benchmark: Progress of the run.
        load: The load at work.
        notes: What a reader should know of these figures, a sentence each.
    """

    health: LiveHealth | None = None
    pool: LivePool | None = None
    pools: tuple[LivePool, ...] = ()
    performance: dict[str, Any] | None = None
    errors: LiveErrors = Field(default_factory=LiveErrors)
    token: LiveToken | None = None
    streams: tuple[LiveStream, ...] = ()
    agents: tuple[LiveAgent, ...] = ()
    benchmark: LiveBenchmark | None = None
    load: LiveLoad | None = None
    notes: tuple[str, ...] = ()


class MetricsUpdate(_Live):
    """One message of the WebSocket, and of `/live` for those who poll."""

    type: Literal["metrics_update"] = "metrics_update"
    version: int = LIVE_VERSION
    sequence: int = 0
    timestamp: datetime
    data: LiveData
