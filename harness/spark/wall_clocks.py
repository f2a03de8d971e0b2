"""Comparing the wall clocks of executors with the driver's.

Machines share no monotonic clock. Their wall clocks are what time synchronisation
keeps together, and this module measures how well it did, with nothing but short jobs
in which every executor reads its clock: it does so after the driver has asked, and
before the driver has the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.clock import Clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READINGS = 9


def wall_offset_ns(clock: Clock) -> int:
    """Return what to add to the monotonic time to get the wall-clock time, in ns.

    The quickest of several readings counts: nothing came between its two clocks.
    """
    readings = []
    for _ in range(_READINGS):
        before_ns = clock.monotonic_ns()
        wall_ns = wall_clock_ns(clock)
        after_ns = clock.monotonic_ns()
        readings.append((after_ns - before_ns, wall_ns - (before_ns + after_ns) // 2))
    return min(readings)[1]


def wall_clock_ns(clock: Clock) -> int:
    """Return the wall-clock time in ns since 1970."""
    return (clock.now() - _EPOCH) // timedelta(microseconds=1) * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One job in which every executor read its wall clock, in ns.

    Attributes:
        asked_ns: The driver's clock before the job.
        answered_ns: The driver's clock after it.
        readings: Machine and its reading, one for each task.
    """

    asked_ns: int
    answered_ns: int
    readings: Sequence[tuple[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockComparison:
    """How far the clocks of machines are ahead of the driver's, in ns.

    Attributes:
        ahead_ns: Machine -> at least, at most; negative is behind.
    """

    ahead_ns: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> ClockComparison:
        """Compare by several probes; the tightest bounds count."""
        ahead_ns: dict[str, tuple[int, int]] = {}
        for probe in probes:
            for machine, reading_ns in probe.readings:
                least_ns = reading_ns - probe.answered_ns
                most_ns = reading_ns - probe.asked_ns
                known = ahead_ns.get(machine, (least_ns, most_ns))
                ahead_ns[machine] = max(known[0], least_ns), min(known[1], most_ns)
        return cls(ahead_ns=ahead_ns)

    @property
    def apart_ns(self) -> int:
        """By how much some clock and the driver's differ at least; 0 if they agree."""
        bounds = self.ahead_ns.values()
        return max((max(least, -most, 0) for least, most in bounds), default=0)

    @property
    def bound_ns(self) -> int:
        """By how much any clock and the driver's differ at most."""
        bounds = self.ahead_ns.values()
        return max((max(-least, most) for least, most in bounds), default=0)

    @property
    def furthest(self) -> str:
        """The machine whose clock differs most, as far as is proven."""
        return max(
            self.ahead_ns,
            key=lambda name: max(self.ahead_ns[name][0], -self.ahead_ns[name][1]),
        )
