"""The environment guard: what the machine did during a run, and whether it mattered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.load.surroundings import watch_surroundings
from harness.reports.record import EnvironmentBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.load.surroundings import Surroundings

# Past these a run says more of the machine than of the code. Below them noise widens
# the interval, and that is enough.
OTHERS_MAX = 0.75
STOLEN_MAX = 0.20
THROTTLED_MAX = 0.05
SWITCHES_PER_S_MAX = 2_000.0

_CGROUP_STAT = Path("/sys/fs/cgroup/cpu.stat")
_PROCESSORS = Path("/sys/devices/system/cpu")
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What happened between two looks at the machine."""

    wall_s: float
    around: Surroundings
    switches: int


class EnvironmentWatch:
    """Watches the machine from when it is made until `finish`, but for pauses.

    A run that takes turns with another one waits while the other works: that work is
    no disturbance, so the watch is paused meanwhile.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._load_before = psutil.getloadavg()[0]
        self._throttled_before, self._heat_before = _throttled_s(), _thermal_throttles()
        self._stretches: list[_Stretch] = []
        self._end_stretch: Callable[[], _Stretch] | None = None
        self.resume()

    def resume(self, processes: Sequence[psutil.Process] | None = None) -> None:
        """Go on watching.

        Args:
            processes: As in `watch_surroundings`.
        """
        if self._end_stretch is not None:
            return
        finish_surroundings = watch_surroundings(processes)
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        before = self._process.num_ctx_switches().involuntary

        def end() -> _Stretch:
            wall_s = max(1e-9, (SYSTEM_CLOCK.monotonic_ns() - began_ns) / NS_PER_S)
            switches = self._process.num_ctx_switches().involuntary - before
            return _Stretch(wall_s, finish_surroundings(), switches)

        self._end_stretch = end

    def pause(self) -> None:
        """Leave out what happens until `resume`."""
        if self._end_stretch is not None:
            self._stretches.append(self._end_stretch())
            self._end_stretch = None

    def finish(self) -> EnvironmentBlock:
        """Stop watching and say what happened."""
        self.pause()
        wall_s = sum(stretch.wall_s for stretch in self._stretches)
        throttled, heat = _throttled_s(), _thermal_throttles()
        switches = sum(stretch.switches for stretch in self._stretches)
        block = EnvironmentBlock(
            load_1min=(round(self._load_before, 2), round(psutil.getloadavg()[0], 2)),
            others=self._share(lambda around: around.others, wall_s),
            stolen=self._share(lambda around: around.stolen, wall_s),
            throttled_s=_since(self._throttled_before, throttled),
            thermal_throttles=None
            if heat is None or self._heat_before is None
            else heat - self._heat_before,
            involuntary_switches_per_s=round(switches / wall_s, 1),
            affinity_count=_affinity_count(self._process),
        )
        doubts = doubts_about_environment(block, wall_s=wall_s)
        return block.model_copy(update={"doubts": doubts})

    def _share(self, of: Callable[[Surroundings], float], wall_s: float) -> float:
        total = sum(of(stretch.around) * stretch.wall_s for stretch in self._stretches)
        return round(total / wall_s, 4)


def doubts_about_environment(block: EnvironmentBlock, *, wall_s: float) -> list[str]:
    """Return why a run of *wall_s* seconds in such an environment is in doubt."""
    doubts = []
    if (block.others or 0) > OTHERS_MAX:
        doubts.append(f"other processes used {block.others:.0%} of the machine")
    if (block.stolen or 0) > STOLEN_MAX:
        doubts.append(f"the host took {block.stolen:.0%} of the machine's time")
    if (block.throttled_s or 0) > THROTTLED_MAX * wall_s:
        doubts.append(
            f"the CPU quota held the run back for {block.throttled_s:.1f} of "
            f"{wall_s:.1f} s"
        )
    if block.thermal_throttles:
        doubts.append(f"processors slowed for heat {block.thermal_throttles} times")
    if (block.involuntary_switches_per_s or 0) > SWITCHES_PER_S_MAX:
        doubts.append(
            "the run lost its processor "
            f"{block.involuntary_switches_per_s:,.0f} times per second"
        )
    return doubts


def _since(before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return round(after - before, 3)


def _throttled_s() -> float | None:
    """Return how long the container's quota held us back so far; None if unknown."""
    try:
        lines = _CGROUP_STAT.read_text().splitlines()
        counts = dict(line.split() for line in lines)
        return int(counts["throttled_usec"]) / _US_PER_S
    except (OSError, KeyError, ValueError):
        return None


def _thermal_throttles() -> int | None:
    counts = []
    for file in _PROCESSORS.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"):
        try:
            counts.append(int(file.read_text()))
        except (OSError, ValueError):
            continue
    return sum(counts) if counts else None


def _affinity_count(process: psutil.Process) -> int | None:
    # macOS does not tell.
    affinity = getattr(process, "cpu_affinity", None)
    return len(affinity()) if affinity is not None else psutil.cpu_count()
