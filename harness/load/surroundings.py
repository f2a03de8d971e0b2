"""What else the machine did during a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Shares of the machine's whole CPU time during a run, each 0 to 1.

    Attributes:
        others: Used by processes that are neither ours nor our descendants. A
            database in a container counts as one of them.
        stolen: Taken by the host for other machines.
    """

    others: float
    stolen: float


class _Reading:
    """CPU seconds so far: the machine's and our own process tree's."""

    def __init__(self) -> None:
        self.at_ns = SYSTEM_CLOCK.monotonic_ns()
        times = psutil.cpu_times()
        idle_s = times.idle + getattr(times, "iowait", 0.0)
        self.stolen_s = getattr(times, "steal", 0.0)
        # Guest time is counted in user time already.
        guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        self.busy_s = sum(times) - idle_s - self.stolen_s - guests_s
        own = psutil.Process()
        self.by_process = dict(_cpu_s(own, *own.children(recursive=True)))


def _cpu_s(*processes: psutil.Process) -> list[tuple[int, float]]:
    found = []
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # ended meanwhile: its time is in its parent's children time
        found.append((process.pid, times.user + times.system))
    return found


def watch_surroundings() -> Callable[[], Surroundings]:
    """Start watching; the function returned says what happened until it is called.

    It costs two looks at the process table and nothing in between. CPU time of our
    descendants that came and went in between is counted as that of others.
    """
    before = _Reading()

    def finish() -> Surroundings:
        after = _Reading()
        cores = psutil.cpu_count() or 1
        wall_s = max(1e-9, (after.at_ns - before.at_ns) / NS_PER_S)
        own_s = sum(
            cpu_s - before.by_process.get(pid, 0.0)
            for pid, cpu_s in after.by_process.items()
        )
        busy_s = after.busy_s - before.busy_s
        stolen_s = after.stolen_s - before.stolen_s
        return Surroundings(
            others=round(min(1.0, max(0.0, busy_s - own_s) / (wall_s * cores)), 4),
            stolen=round(min(1.0, max(0.0, stolen_s) / (wall_s * cores)), 4),
        )

    return finish
