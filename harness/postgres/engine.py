"""The Docker engine: whether one answers, and having it pull an image."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.clock import NS_PER_S, Clock
from harness.errors import TargetError
from harness.postgres.keeper_process import UnixConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROBE_TIMEOUT_S = 1.0
# Silence for so long ends a pull even before its own limit.
PULL_SILENCE_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A Docker engine, or why there is none.

    Attributes:
        url: Where it answers, such as "unix:///var/run/docker.sock"; or None.
        problem: Why there is none; empty if there is one.
    """

    url: str | None
    problem: str = ""


def find_engine(environment: Mapping[str, str] | None = None) -> Engine:
    """Look for an engine that answers, within about a second and without its library.

    Args:
        environment: The variables to go by; default those of this process.
    """
    if environment is None:
        environment = engine_environment()
    named = environment.get("DOCKER_HOST")
    if named:
        problem = _probe(named)
        if problem is None:
            return Engine(url=named)
        return Engine(url=None, problem=f"no engine answers at DOCKER_HOST: {problem}")
    folders = [environment.get("XDG_RUNTIME_DIR"), environment.get("HOME")]
    paths = ["/var/run/docker.sock"]
    paths += [f"{folders[0]}/docker.sock"] if folders[0] else []
    paths += [f"{folders[1]}/.docker/run/docker.sock"] if folders[1] else []
    for path in paths:
        if Path(path).exists() and _probe(f"unix://{path}") is None:
            return Engine(url=f"unix://{path}")
    return Engine(url=None, problem="no Docker engine answers")


def pull_image(
    client: Any,
    image: str,
    *,
    timeout_s: float,
    notify: Callable[[str], None],
    clock: Clock,
) -> None:
    """Make sure that the engine has the image.

    Raises:
        TargetError: It has not, and cannot pull it in time.
    """
    from docker.errors import DockerException, ImageNotFound

    with suppress(ImageNotFound):
        client.images.get(image)
        return
    notify(f"pulling {image}, for at most {timeout_s:.0f} s")
    deadline_ns = clock.monotonic_ns() + int(timeout_s * NS_PER_S)
    usual_timeout = client.api.timeout
    client.api.timeout = min(timeout_s, PULL_SILENCE_S)
    problem = None
    try:
        for line in client.api.pull(image, stream=True, decode=True):
            problem = line.get("error")
            if problem is None and clock.monotonic_ns() > deadline_ns:
                problem = (
                    f"not done after {timeout_s:g} s "
                    "(setting LAKEGAUGE_DOCKER_PULL_TIMEOUT_S)"
                )
            if problem is not None:
                break
    except (DockerException, OSError) as error:
        problem = one_line(error)
    finally:
        client.api.timeout = usual_timeout
    if problem is not None:
        msg = (
            f"the Docker engine answers but cannot pull {image}: {problem}; pull it "
            "by hand, name another in LAKEGAUGE_POSTGRES_IMAGE, or use "
            "--target=embedded"
        )
        raise TargetError(msg)


def one_line(error: Exception) -> str:
    """Return what an exception says, without its line breaks."""
    text = getattr(error, "explanation", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def engine_environment() -> dict[str, str]:
    """Return the variables for the engine's library and tools."""
    from harness.settings import child_environment

    return child_environment()


def _probe(url: str) -> str | None:
    """Say why no engine answers at *url*; None if one does."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "unix":
            connection = UnixConnection(parts.path, timeout_s=PROBE_TIMEOUT_S)
            with closing(connection):
                connection.request("GET", "/_ping")
                status = connection.getresponse().status
                return None if status == http.client.OK else f"status {status}"
        if parts.scheme == "tcp" and parts.hostname:
            address = (parts.hostname, parts.port or 2375)
            socket.create_connection(address, PROBE_TIMEOUT_S).close()
    except (OSError, http.client.HTTPException) as error:
        return one_line(error)
    # Another scheme (ssh) is the library's to try.
    return None
