"""Serving the monitor: on this machine, or elsewhere to whoever has the token."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import psutil

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import SecretStr

    from harness.lakebase.service import LakebaseService
    from harness.monitor.broadcast import Source

WEBSOCKET_MESSAGE_BYTES_MAX = 8192
# Of a monitor beside a run, where the system knows the word.
NICENESS = 10


def serve(
    reports: Path,
    *,
    host: str,
    port: int,
    on_ready: Callable[[str], None],
    watched: LakebaseService | None = None,
    replay: str | None = None,
    speed: float = 1.0,
    token: SecretStr | None = None,
    interval_s: float = 1.0,
) -> None:
    """Serve until interrupted.

    Args:
        reports: The folder of reports.
        host: A loopback address or `localhost`; any other needs a token.
        port: 0 takes a free one.
        on_ready: Called with the address of the dashboard once connections are
            accepted.
        watched: A started service to watch; None watches the run in progress.
        replay: Number, name or path of a report to play again instead.
        speed: How many times as fast as it was measured.
        token: What everybody must bring.
        interval_s: Time between two live updates, in seconds.

    Raises:
        ConfigError: If the address is not this machine's own and there is no token,
            or it cannot be had.
        ReportError: The report to replay cannot be found or read.
    """
    try:
        import uvicorn

        from harness.monitor.app import make_app
        from harness.monitor.guard import is_loopback
        from harness.monitor.live_api import Subject, subject_of
    except ModuleNotFoundError as error:
        msg = f"the monitor needs {error.name}: pip install 'lakegauge[monitor]'"
        raise ConfigError(msg) from None

    if not is_loopback(host) and token is None:
        msg = (
            f"--host {host}: other machines could read this page, so it needs a token: "
            "set LAKEGAUGE_MONITOR_TOKEN. Or serve it on 127.0.0.1 and see it from "
            f"there with: ssh -L {port or 8000}:127.0.0.1:{port or 8000} THIS_MACHINE"
        )
        raise ConfigError(msg)
    # Whoever is on this machine may run SQL anyway; others read figures.
    if watched is not None:
        subject = subject_of(watched, allow_query=is_loopback(host))
    else:
        subject = Subject(source=_run_source(reports, replay, speed, interval_s))
        _give_way()
    config = uvicorn.Config(
        make_app(reports, subject=subject, token=token, interval_s=interval_s),
        log_level="warning",
        # Its lines would hold the token that opens the dashboard.
        access_log=False,
        ws="websockets-sansio",
        # Each client would have its own: fifty times the work, on this machine.
        ws_per_message_deflate=False,
        ws_max_size=WEBSOCKET_MESSAGE_BYTES_MAX,
        server_header=False,
        proxy_headers=False,
    )
    with _listening_socket(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        # Ctrl-C is how a person ends it: uvicorn shuts down, then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            on_ready(f"http://{shown}:{bound_port}/dashboard")
            uvicorn.Server(config).run(sockets=[listener])


def _give_way() -> None:
    """Let the run that is watched have the processor first."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process()
        process.nice(
            psutil.BELOW_NORMAL_PRIORITY_CLASS
            if psutil.WINDOWS
            else max(process.nice(), NICENESS)
        )


def _run_source(
    reports: Path, replay: str | None, speed: float, interval_s: float
) -> Source:
    from harness.monitor.folder import ReportFolder, find_run
    from harness.monitor.run_source import ReplaySource, RunSource

    if replay is None:
        return RunSource(ReportFolder(reports), interval_s=interval_s)
    return ReplaySource(find_run(replay, reports), speed=speed)


def _listening_socket(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        msg = (
            f"--port {port}: {host} cannot be listened on ({error.strerror}); "
            "--port 0 takes a free one"
        )
        raise ConfigError(msg) from None
