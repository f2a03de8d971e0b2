"""What else the machine did during a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Shares of the machine's whole CPU time during a run, each 0 to 1.

    Attributes:
        others: Used by processes that are neither ours nor our descendants. A
            database in a container counts as one of them.
        stolen: Taken by the host for other machines.
        own: Used by us and our descendants, those that ended meanwhile included.
    """

    others: float
    stolen: float
    own: float = 0.0


class _Reading:
    """CPU seconds so far: the machine's and our own process tree's."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self.at_ns = SYSTEM_CLOCK.monotonic_ns()
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        self.stolen_s = getattr(times, "steal", 0.0)
        # Guest time is counted in user time already.
        guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        self.busy_s = sum(times) - idle_s - self.stolen_s - guests_s
        self.own_s = sum(_cpu_s(process) for process in processes)


def own_processes() -> list[psutil.Process]:
    """Return this process and its descendants; a look at the whole process table."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of its children that have ended.

    A child that is alive is looked at itself; once its parent has waited for it, its
    time is in its parent's children time. So the sum over a tree loses nothing.
    """
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0  # ended between the listing and this look
    children_s = getattr(times, "children_user", 0.0)
    children_s += getattr(times, "children_system", 0.0)
    return float(times.user + times.system + children_s)


def watch_surroundings(
    processes: Sequence[psutil.Process] | None = None,
) -> Callable[[], Surroundings]:
    """Start watching; the function returned says what happened until it is called.

    It costs two looks at the process table and nothing in between.

    Args:
        processes: Ours, for a stretch so short that none begins or ends in it: then
            the table is not looked at, which takes milliseconds.
    """
    before = _Reading(processes or own_processes())

    def finish() -> Surroundings:
        after = _Reading(processes or own_processes())
        cores = psutil.cpu_count() or 1
        wall_s = max(1e-9, (after.at_ns - before.at_ns) / NS_PER_S)
        own_s = after.own_s - before.own_s
        busy_s = after.busy_s - before.busy_s
        stolen_s = after.stolen_s - before.stolen_s
        return Surroundings(
            others=round(min(1.0, max(0.0, busy_s - own_s) / (wall_s * cores)), 4),
            stolen=round(min(1.0, max(0.0, stolen_s) / (wall_s * cores)), 4),
            own=round(min(1.0, max(0.0, own_s) / (wall_s * cores)), 4),
        )

    return finish
