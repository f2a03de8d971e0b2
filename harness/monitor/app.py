"""The FastAPI application over a folder of reports."""

from __future__ import annotations

import ipaddress
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response

from harness.monitor.folder import ReportFolder, SavedRun, state_of
from harness.monitor.page import dashboard_page
from harness.monitor.views import (
    Alive,
    Index,
    Problem,
    ReportDetail,
    ReportList,
    ReportSummary,
)

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

STATIC_TYPES = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
# Nothing from elsewhere, and nothing inline: what a report holds cannot run.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


def is_loopback(host: str) -> bool:
    """Whether the name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_app(reports: Path) -> FastAPI:
    """Return the application.

    Its endpoints are plain functions: they read files, so FastAPI runs them on
    threads and the event loop never waits for a disk.

    Args:
        reports: The folder of reports.
    """
    app = FastAPI(
        title="lakegauge monitor",
        version=version("lakegauge"),
        # Their pages load scripts from elsewhere; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard)
    folder = ReportFolder(reports)
    static = files("harness.monitor") / "static"
    contents = {name: (static / name).read_bytes() for name in STATIC_TYPES}

    @app.get("/livez")
    def livez() -> Alive:
        """Answer as long as the server runs."""
        return Alive()

    @app.get("/")
    def index() -> Index:
        """Say what this is and where to go on."""
        return Index(
            name="lakegauge",
            version=app.version,
            links={
                "dashboard": "/dashboard",
                "reports": "/reports",
                "livez": "/livez",
                "openapi": "/openapi.json",
            },
        )

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

    @app.get("/dashboard", response_class=HTMLResponse, responses=NOT_FOUND)
    def dashboard(
        run: Annotated[
            str | None, Query(description="A label; the newest if none.")
        ] = None,
    ) -> HTMLResponse:
        """Show a run beside its baseline, for people."""
        listing = folder.listing()
        if run is not None and listing.find(run) is None:
            raise HTTPException(404, f"no report {run!r}; see /reports")
        return HTMLResponse(dashboard_page(listing, label=run, folder=folder.path))

    @app.get("/static/{name}", response_class=Response, responses=NOT_FOUND)
    def static_file(name: str) -> Response:
        """Return a part of the dashboard."""
        if name not in contents:
            raise HTTPException(404, "no such file")
        return Response(contents[name], media_type=STATIC_TYPES[name])

    return app


class Guard:
    """Sets the security headers, and answers only to the names of this machine.

    A page elsewhere may let its own name resolve to 127.0.0.1 and would then read
    what is served here; it cannot choose the Host header, which still holds its name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: MutableMapping[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                assert isinstance(headers, list)  # noqa: S101  # ASGI says so
                headers += [
                    (name.encode(), value.encode())
                    for name, value in SECURITY_HEADERS.items()
                ]
            await send(message)

        host = dict(scope["headers"]).get(b"host", b"").decode("latin1")
        if is_loopback(_without_port(host)):
            await self._app(scope, receive, send_guarded)
            return
        problem = Problem(detail=f"Host {host!r} is not this machine; use localhost")
        await JSONResponse(problem.model_dump(), 421)(scope, receive, send_guarded)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


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
