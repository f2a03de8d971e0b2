"""What a session can do: five kinds of Spark, and what each lacks.

A test that needs something says so, `@pytest.mark.needs("plans")`, and is skipped with
the name of what is missing where the session does not have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import ConfigError


class Capability(StrEnum):
    """Something a session may lack."""

    PLANS = "plans"
    CPU = "cpu"
    KILLS = "kills"
    FILES = "files"
    PIPELINES = "pipelines"

    @property
    def meaning(self) -> str:
        """What it is, for the reason of a skip."""
        return _MEANINGS[self]


_MEANINGS = {
    Capability.PLANS: "executed plans, which only a JVM of this process shows",
    Capability.CPU: "CPU time and memory of a JVM on this machine",
    Capability.KILLS: "all writing processes on this machine, to kill them",
    Capability.FILES: "a file system that Spark and this process both see "
    "(LAKEGAUGE_SPARK_STORAGE)",
    Capability.PIPELINES: "declarative pipelines, which run over Spark Connect only "
    "(LAKEGAUGE_SPARK_MASTER=connect)",
}

DATABRICKS = "databricks"
_CONNECT = re.compile(r"^connect(?:\[(\*|[1-9][0-9]*)\])?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A kind of Spark.

    Attributes:
        name: Such as "LocalClassic".
        capabilities: What it has.
    """

    name: str
    capabilities: frozenset[Capability]

    def missing(self, needed: set[Capability]) -> str | None:
        """Return why a test that needs this cannot run; None if it can."""
        lacking = sorted(needed - self.capabilities)
        if not lacking:
            return None
        what = "; ".join(f"{c.value} ({c.meaning})" for c in lacking)
        return f"Spark backend {self.name} lacks {what}"


def backend_of(*, master: str, remote: str | None, has_storage: bool) -> Backend:
    """Return the kind of Spark that the settings ask for.

    Args:
        master: The setting; "connect" or "connect[2]" is a Spark Connect server of our
            own, in a process of its own on this machine.
        remote: Address of a Spark Connect server, or "databricks".
        has_storage: Whether a folder was named that a remote server sees as well.
    """
    classic = frozenset(Capability) - {Capability.PIPELINES}
    shared = {Capability.FILES} if has_storage else set()
    if remote is not None:
        name = "DatabricksConnect" if remote == DATABRICKS else "Remote"
        # A workspace runs pipelines itself: harness/spark/pipelines/workspace.py.
        more = set() if remote == DATABRICKS else {Capability.PIPELINES}
        return Backend(name=name, capabilities=frozenset(shared | more))
    if connect_threads(master) is not None:
        return Backend(
            name="LocalConnect",
            capabilities=frozenset(Capability) - {Capability.PLANS},
        )
    if master.startswith("local-cluster"):
        # Executors are processes of their own: stopping the driver stops no write.
        return Backend(
            name="LocalCluster",
            capabilities=classic - {Capability.KILLS},
        )
    if master.startswith("local"):
        return Backend(name="LocalClassic", capabilities=classic)
    return Backend(name="Cluster", capabilities=frozenset({Capability.PLANS, *shared}))


def connect_threads(master: str) -> str | None:
    """Return "2" for the master "connect[2]", "*" for "connect"; None for others."""
    found = _CONNECT.match(master)
    return (found.group(1) or "*") if found else None


def needed_by(names: tuple[object, ...]) -> set[Capability]:
    """Return the capabilities that a marker names.

    Raises:
        ConfigError: If there is no such capability.
    """
    try:
        return {Capability(str(name)) for name in names}
    except ValueError as error:
        known = ", ".join(Capability)
        msg = f"pytest.mark.needs: {error}; there are {known}"
        raise ConfigError(msg) from None
