"""Which Postgres a run is measured on, and starting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.postgres.server import Server
    from harness.settings import Settings

    Notify = Callable[[str], None]
    Starter = Callable[[Settings], Server | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A target and why it was taken.

    Attributes:
        target: "dsn", "docker", "embedded" or "lakebase".
        reason: One clause for the header.
        warning: What the user hoped for and did not get, or None.
    """

    target: str
    reason: str
    warning: str | None = None


def resolve(settings: Settings) -> Choice:
    """Take the target that was named; for `auto`, the first that can be had.

    That is a connection string, then a Lakebase endpoint or instance, then
    Docker if an engine answers, then an embedded Postgres. What the user
    configured is taken even if it will not answer: falling back would measure
    something else than was asked for.
    """
    target = settings.target.target
    if target != "auto":
        source = settings.source_of("target.target")
        return Choice(target=target, reason=f"named by {source.name or source.layer}")
    if settings.target.postgres_dsn is not None:
        source = settings.source_of("target.postgres_dsn")
        return Choice(target="dsn", reason=f"{source.name} is set")
    for field in ("endpoint", "instance_name"):
        if getattr(settings.lakebase, field) is not None:
            source = settings.source_of(f"lakebase.{field}")
            return Choice(target="lakebase", reason=f"{source.name} is set")
    from harness.postgres.engine import find_engine

    engine = find_engine()
    if engine.url is not None:
        return Choice(
            target="docker", reason="no DSN or workspace configured, Docker answers"
        )
    return Choice(
        target="embedded", reason=f"no DSN or workspace configured, {engine.problem}"
    )


def start(
    settings: Settings,
    *,
    notify: Notify = lambda _text: None,
    lakebase: Starter | None = None,
) -> tuple[Server, str | None]:
    """Start or open the Postgres that the settings choose.

    Args:
        settings: Name the target and how to reach it.
        notify: Called with one line of text before anything that takes long.
        lakebase: Opens the Lakebase target, which belongs to a layer above;
            it gets settings whose target is "lakebase".

    Returns:
        The server, and a warning when `auto` had to take another target than
        the first that answered.

    Raises:
        TargetError: The chosen target cannot be had.
    """
    choice = resolve(settings)
    if choice.target == "dsn":
        from harness.postgres.dsn import open_dsn

        return open_dsn(settings, reason=choice.reason), None
    if choice.target == "lakebase":
        server = lakebase(_with_target(settings, "lakebase")) if lakebase else None
        if server is None:
            msg = (
                "--target=lakebase needs databricks-sdk: "
                "pip install 'lakegauge[databricks]'"
            )
            raise TargetError(msg)
        return server, None
    if choice.target == "docker":
        from harness.postgres.docker import start_docker

        try:
            return start_docker(settings, reason=choice.reason, notify=notify), None
        except TargetError as error:
            if settings.target.target != "auto":
                raise
            choice = Choice(
                target="embedded",
                reason="Docker answers but gives no Postgres",
                warning=f"{error}; measured on an embedded Postgres instead",
            )
    from harness.postgres.embedded import start_embedded

    return start_embedded(settings, reason=choice.reason), choice.warning


def _with_target(settings: Settings, target: str) -> Settings:
    """Return the settings as if *target* had been named instead of `auto`."""
    resolved = settings.target.model_copy(update={"target": target})
    return settings.model_copy(update={"target": resolved})
