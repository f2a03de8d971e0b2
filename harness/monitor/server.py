"""Serving the monitor on this machine, and on this machine only."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def serve(
    reports: Path, *, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Serve until interrupted.

    Args:
        reports: The folder of reports.
        host: A loopback address or `localhost`.
        port: 0 takes a free one.
        on_ready: Called with the address of the dashboard once connections are
            accepted.

    Raises:
        ConfigError: If the address is not this machine's own, or cannot be had.
    """
    try:
        import uvicorn

        from harness.monitor.app import is_loopback, make_app
    except ModuleNotFoundError as error:
        msg = f"the monitor needs {error.name}: pip install 'lakegauge[monitor]'"
        raise ConfigError(msg) from None

    if not is_loopback(host):
        msg = (
            f"--host {host}: the page has no access control yet, so it is served on "
            "127.0.0.1, ::1 or localhost only. To see it from another machine: "
            f"ssh -L {port or 8000}:127.0.0.1:{port or 8000} THIS_MACHINE"
        )
        raise ConfigError(msg)
    config = uvicorn.Config(
        make_app(reports),
        log_level="warning",
        access_log=False,
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
