"""The live endpoints: health, figures, tests of the database, and the WebSocket."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, HTTPException, Query, WebSocket
from fastapi.responses import PlainTextResponse

from harness.clock import NS_PER_MS, SYSTEM_CLOCK
from harness.errors import HarnessError, TargetError
from harness.monitor.views import Problem, problem_beside_text
from harness.monitor.views_live import (
    Agents,
    ConfigView,
    ConnectionTest,
    HealthDetail,
    HealthTrends,
    PerformanceView,
    PoolStatus,
    QueryResult,
    Ready,
    SettingView,
    Streams,
)
from harness.reports.live import (  # noqa: TC001  # FastAPI reads them
    LiveErrors,
    LiveHealth,
    MetricsUpdate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lakebase.monitoring.health import HealthMonitor
    from harness.lakebase.monitoring.performance import PerformanceMonitor
    from harness.monitor.broadcast import Broadcaster, Source
    from harness.postgres.server import Server
    from harness.settings import Settings

HOURS_MAX = 24 * 7
# Each holds a connection of its own: not for many at once.
TESTS_AT_ONCE_MAX = 2
TEST_TIMEOUT_S = 5.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROBLEM: dict[str, Any] = {"model": Problem}
NOTHING_YET: dict[int | str, dict[str, Any]] = {503: _PROBLEM}
TESTS: dict[int | str, dict[str, Any]] = {
    400: _PROBLEM,
    403: _PROBLEM,
    429: _PROBLEM,
    503: _PROBLEM,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is watched, and what may be asked of it beyond its figures.

    Attributes:
        source: Its figures.
        performance: For the Prometheus text; None where another process has it.
        health: For its history; None where another process has it.
        server: Where the tests connect; None switches them off.
        settings: What `/config` shows; None shows nothing.
        allow_query: Whether `/test/query` answers.
    """

    source: Source
    performance: PerformanceMonitor | None = None
    health: HealthMonitor | None = None
    server: Server | None = None
    settings: Settings | None = None
    allow_query: bool = False


def live_router(subject: Subject, broadcaster: Broadcaster) -> APIRouter:
    """Return the endpoints over one subject.

    Plain functions run on threads. What they ask may take a lock or read a file.
    """
    router = APIRouter()
    _add_health(router, subject)
    _add_figures(router, subject)
    _add_subjects(router, subject)
    _add_tests(router, subject)

    @router.get("/live")
    async def live() -> MetricsUpdate:
        """Return everything at once, as the WebSocket sends it."""
        return await broadcaster.update()

    @router.websocket("/ws/live-updates")
    async def live_updates(websocket: WebSocket) -> None:
        """Send a `metrics_update` every tick; what a client says is acknowledged."""
        await broadcaster.serve(websocket)

    return router


def _add_health(router: APIRouter, subject: Subject) -> None:
    def last_health() -> LiveHealth:
        health = subject.source.live().health
        if health is None:
            raise HTTPException(503, "no health check has been run yet")
        return health

    @router.get("/health", responses=NOTHING_YET)
    def health() -> LiveHealth:
        """Return the last health report; it never waits for a check."""
        return last_health()

    @router.get("/health/detailed", responses=NOTHING_YET)
    def health_detailed(
        hours: Annotated[float, Query(gt=0, le=HOURS_MAX)] = 24.0,
    ) -> HealthDetail:
        """Return the last health report and how it has been over the last hours."""
        trends = subject.health.get_health_trends(hours) if subject.health else None
        return HealthDetail(
            **last_health().model_dump(),
            trends=HealthTrends.model_validate(trends) if trends else None,
        )

    @router.get("/readyz", responses=NOTHING_YET)
    def readyz() -> Ready:
        """Say whether requests should be sent here: 503 while something is critical."""
        live = subject.source.live()
        if live.health is not None and live.health.status == "critical":
            raise HTTPException(503, "a component is critical; see /health")
        if live.health is None and live.pool is None and live.benchmark is None:
            raise HTTPException(503, "nothing to show yet")
        return Ready()


def _add_figures(router: APIRouter, subject: Subject) -> None:
    @router.get("/metrics/performance", responses=NOTHING_YET)
    def metrics_performance() -> PerformanceView:
        """Return operations by name, with percentiles and alerts."""
        found = subject.source.live().performance
        if found is None:
            raise HTTPException(503, "performance monitoring is off, or has not begun")
        return PerformanceView.model_validate(found)

    @router.get("/metrics/pool", responses=NOTHING_YET)
    def metrics_pool() -> PoolStatus:
        """Return the state and the totals of the pool."""
        pool = subject.source.live().pool
        if pool is None:
            raise HTTPException(503, "there is no pool at the moment")
        return PoolStatus.of(pool)

    @router.get("/metrics/errors")
    def metrics_errors() -> LiveErrors:
        """Return errors by category, and the last ten."""
        return subject.source.live().errors

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=problem_beside_text(503),
    )
    def metrics() -> PlainTextResponse:
        """Return the figures as Prometheus text."""
        if subject.performance is None:
            raise HTTPException(503, "no monitor in this process has figures")
        text = subject.performance.export_metrics("prometheus")
        return PlainTextResponse(text, media_type=CONTENT_TYPE)


def _add_subjects(router: APIRouter, subject: Subject) -> None:
    @router.get("/streams")
    def streams() -> Streams:
        """Return the last progress of streaming queries."""
        return Streams(streams=subject.source.live().streams)

    @router.get("/agents")
    def agents() -> Agents:
        """Return the timing of agent endpoints."""
        return Agents(agents=subject.source.live().agents)

    @router.get("/config", responses=NOTHING_YET)
    def config() -> ConfigView:
        """Return every setting and where it came from; secrets are masked."""
        from harness.settings.display import current_json

        if subject.settings is None:
            raise HTTPException(503, "no settings are at hand")
        values = current_json(subject.settings)
        return ConfigView(
            settings={
                path: SettingView(
                    value=found["value"], source=found["name"] or found["layer"]
                )
                for path, found in values.items()
            }
        )


def _add_tests(router: APIRouter, subject: Subject) -> None:
    slots = BoundedSemaphore(TESTS_AT_ONCE_MAX)

    @contextmanager
    def one_of_few() -> Iterator[Server]:
        if subject.server is None:
            raise HTTPException(503, "no database is attached")
        if not slots.acquire(blocking=False):
            raise HTTPException(429, f"{TESTS_AT_ONCE_MAX} tests are running already")
        try:
            yield subject.server
        finally:
            slots.release()

    @router.post("/test/connection", responses=TESTS)
    def test_connection() -> ConnectionTest:
        """Open a connection now, as the next one of the pool would be."""
        from harness.postgres.probe import Probe

        started_ns = SYSTEM_CLOCK.monotonic_ns()
        with one_of_few() as server:
            probe = Probe(server, connect_timeout_s=TEST_TIMEOUT_S)
            version = None
            try:
                (version,), _ = probe.ask("SELECT current_setting('server_version')")
                said = "connected"
            except HarnessError as error:
                said = str(error)
            finally:
                probe.close()
        return ConnectionTest(
            success=version is not None,
            response_time_ms=(SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_MS,
            server_version=version,
            message=said,
        )

    @router.post("/test/query", responses=TESTS)
    def test_query(
        query: Annotated[str, Query(min_length=1, max_length=10_000)],
    ) -> QueryResult:
        """Run one statement that only reads: SELECT, VALUES, TABLE or WITH."""
        from harness.postgres.readonly import query_read_only

        if not subject.allow_query:
            raise HTTPException(403, "/test/query is switched off here")
        with one_of_few() as server:
            try:
                answer = query_read_only(
                    server.connect_arguments(), query, timeout_s=TEST_TIMEOUT_S
                )
            except TargetError as error:
                state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
                raise HTTPException(400, f"{error}{state}") from None
            except HarnessError as error:
                raise HTTPException(503, str(error)) from None
        return QueryResult(
            columns=answer.columns,
            rows=answer.rows,
            row_count=len(answer.rows),
            truncated=answer.truncated,
            response_time_ms=answer.elapsed_ms,
        )


def subject_of(watched: Any, *, allow_query: bool) -> Subject:
    """Return what can be asked of a service or of a pool.

    Raises:
        TargetError: The service is not started.
    """
    from harness.lakebase.monitoring.snapshot import PoolFigures, ServiceFigures
    from harness.lakebase.service import LakebaseService

    if isinstance(watched, LakebaseService):
        return Subject(
            source=ServiceFigures(watched),
            performance=watched.performance,
            health=watched.health,
            server=watched.server,
            settings=watched.settings,
            allow_query=allow_query,
        )
    figures = PoolFigures(watched)
    return Subject(source=figures, performance=figures.performance)
