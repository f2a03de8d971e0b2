"""The monitor inside an application of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.monitor.app import make_app
from harness.monitor.broadcast import INTERVAL_S
from harness.monitor.live_api import subject_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import SecretStr

    from harness.lakebase.monitoring.pool_watch import WatchedPool
    from harness.lakebase.service import LakebaseService


def mount(
    app: FastAPI,
    watched: LakebaseService | WatchedPool,
    *,
    path: str = "/monitor",
    token: SecretStr | None = None,
    allow_query: bool = False,
    interval_s: float = INTERVAL_S,
) -> FastAPI:
    """Add the monitor to an application, and return the part that was added.

    Without a token it answers only to requests for this machine's own names,
    wherever the application itself listens.

    Args:
        app: The application.
        watched: A service that is started, or a pool alone.
        path: Where the monitor is.
        token: What everybody must bring, in `Authorization: Bearer`.
        allow_query: Whether `/test/query` answers.
        interval_s: Time between two live updates, in seconds.

    Raises:
        ConfigError: The token is short, or the interval.
        TargetError: The service is not started.
    """
    subject = subject_of(watched, allow_query=allow_query)
    monitor = make_app(subject=subject, token=token, interval_s=interval_s)
    app.mount(path, monitor)
    return monitor
