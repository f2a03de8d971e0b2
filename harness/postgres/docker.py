"""A Postgres in a container, through testcontainers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.postgres.server import Server
    from harness.settings import Settings


class ImageUnavailableError(TargetError):
    """The engine answers, but the image is neither there nor can be pulled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A Docker engine, or why there is none.

    Attributes:
        url: Where it answers, such as "unix:///var/run/docker.sock"; or None.
        problem: Why there is none; empty if there is one.
    """

    url: str | None
    problem: str = ""


def find_engine() -> Engine:
    """Look for an engine that answers, within about a second."""
    return Engine(url=None, problem="no Docker engine answers")


def start_docker(
    settings: Settings, *, reason: str, notify: Callable[[str], None]
) -> Server:
    """Start a container and wait until its Postgres accepts connections."""
    raise TargetError("not yet")
