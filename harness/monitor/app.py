"""The FastAPI application over a folder of reports."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute, APIWebSocketRoute

from harness.monitor.broadcast import INTERVAL_S, Broadcaster
from harness.monitor.folder import ReportFolder, SavedRun, state_of
from harness.monitor.guard import Guard, checked_token
from harness.monitor.live_api import live_router
from harness.monitor.page import dashboard_page, live_page
from harness.monitor.views import (
    Alive,
    Index,
    Problem,
    ReportDetail,
    ReportList,
    ReportSummary,
    problem_beside_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

    from harness.monitor.live_api import Subject

STATIC = files("harness.monitor") / "static"
VENDORED = frozenset({"uplot.css", "uplot.js", "uplot-license.txt"})
STATIC_TYPES = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "live.css": "text/css",
    "live.js": "text/javascript",
    "live-chart.js": "text/javascript",
    "live-format.js": "text/javascript",
    "live-link.js": "text/javascript",
    "live-panel.js": "text/javascript",
    "live-series.js": "text/javascript",
    "uplot.css": "text/css",
    "uplot.js": "text/javascript",
    "uplot-license.txt": "text/plain",
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


def make_app(
    reports: Path | None = None,
    *,
    subject: Subject | None = None,
    token: SecretStr | None = None,
    interval_s: float = INTERVAL_S,
) -> FastAPI:
    """Return the application.

    Its endpoints are plain functions: they read files, so FastAPI runs them on
    threads and the event loop never waits for a disk.

    Args:
        reports: The folder of reports; None shows none.
        subject: What is watched live; None leaves those endpoints out.
        token: What everybody must bring; None answers to this machine's names only.
        interval_s: Time between two live updates, in seconds.

    Raises:
        ConfigError: The token is short, or the interval.
    """
    app = FastAPI(
        title="lakegauge monitor",
        version=version("lakegauge"),
        # Their pages load scripts from elsewhere; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, token=checked_token(token))
    endpoints: dict[str, str] = {}
    links = {"livez": "/livez", "openapi": "/openapi.json"}
    if subject is not None:
        broadcaster = Broadcaster(subject.source, interval_s=interval_s)
        router = live_router(subject, broadcaster)
        links |= {"live": "/live"}
        endpoints = {
            str(route.name): str(route.path)
            for route in router.routes
            if isinstance(route, APIRoute | APIWebSocketRoute)
        }
        app.include_router(router)
        app.state.broadcaster = broadcaster
    if reports is not None:
        links |= {"reports": "/reports"}
        _add_reports(app, ReportFolder(reports), is_live=subject is not None)
    elif subject is not None:

        @app.get("/dashboard", response_class=HTMLResponse)
        def dashboard(request: Request) -> HTMLResponse:
            """Show what goes on now, for people."""
            return HTMLResponse(live_page(request.scope.get("root_path", "")))

    if reports is not None or subject is not None:
        links |= {"dashboard": "/dashboard"}
        _add_static(app)

    @app.get("/livez")
    def livez() -> Alive:
        """Answer as long as the server runs."""
        return Alive()

    @app.get("/")
    def index() -> Index:
        """Say what this is and where to go on."""
        return Index(
            name="lakegauge", version=app.version, links=links, endpoints=endpoints
        )

    return app


def _add_static(app: FastAPI) -> None:
    contents = {
        name: (
            STATIC / "vendor" / name if name in VENDORED else STATIC / name
        ).read_bytes()
        for name in STATIC_TYPES
    }

    text = {"schema": {"type": "string"}}
    kinds = {kind.partition(";")[0]: text for kind in STATIC_TYPES.values()}

    @app.get(
        "/static/{name}",
        response_class=Response,
        responses={200: {"content": kinds}, **problem_beside_text(404)},
    )
    def static_file(name: str) -> Response:
        """Return a part of the dashboard."""
        if name not in contents:
            raise HTTPException(404, "no such file")
        return Response(contents[name], media_type=STATIC_TYPES[name])


def _add_reports(app: FastAPI, folder: ReportFolder, *, is_live: bool) -> None:
    @app.get("/reports")
    def list_reports() -> ReportList:
        """List saved reports and the run in progress, newest first."""
        listing = folder.listing()
        return ReportList(
            reports=tuple(_summary(run, folder) for run in listing.runs),
            notes=listing.notes,
        )

    # A label may be a path below the folder; it is only ever looked up in the list.
    @app.get("/reports/{label:path}", responses=NOT_FOUND)
    def show_report(label: str) -> ReportDetail:
        """Show the cases of one report."""
        run = folder.listing().find(label)
        if run is None:
            raise HTTPException(404, f"no report {label!r}; see /reports")
        summary = _summary(run, folder)
        return ReportDetail(
            **summary.model_dump(), cases=run.cases, failed=run.run.failed
        )

    @app.get(
        "/dashboard",
        response_class=HTMLResponse,
        responses=problem_beside_text(404),
    )
    def dashboard(
        run: Annotated[
            str | None, Query(description="A label; the newest if none.")
        ] = None,
    ) -> HTMLResponse:
        """Show a run beside its baseline, for people."""
        listing = folder.listing()
        if run is not None and listing.find(run) is None:
            raise HTTPException(404, f"no report {run!r}; see /reports")
        page = dashboard_page(
            listing,
            label=run,
            folder=folder.path,
            # Somebody who asks for a saved run does not ask for what goes on now.
            is_live=is_live and run is None,
        )
        return HTMLResponse(page)


def _summary(run: SavedRun, folder: ReportFolder) -> ReportSummary:
    return ReportSummary.model_validate(
        {
            "label": run.label,
            "path": folder.shown_path(run),
            "started_at": run.started_at,
            "complete": run.run.complete,
            "state": state_of(run),
            "smoke": run.run.smoke,
            "cases_count": len(run.cases),
            "failed_count": len(run.run.failed),
        }
    )
