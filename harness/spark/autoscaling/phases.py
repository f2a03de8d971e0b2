"""The phased load of the auto-scaling demo, as data: who sends how much, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.load.schedules import RateProfile

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """Streams of one kind: all start together, and stop at the end of the cycle.

    Attributes:
        name: What its rows carry as `stream_type`, such as "baseline" or "3x".
        streams_count: How many streams of this kind there are.
        rows_per_s: What each of them sends.
        from_s: When they start, in seconds from the start of each cycle.
    """

    name: str
    streams_count: int
    rows_per_s: float
    from_s: float = 0.0

    def __post_init__(self) -> None:
        if self.streams_count < 1:
            msg = (
                f"phase {self.name!r}: streams_count must be >= 1, "
                f"got {self.streams_count}"
            )
            raise ConfigError(msg)
        if self.rows_per_s <= 0:
            msg = f"phase {self.name!r}: rows_per_s must be > 0, got {self.rows_per_s}"
            raise ConfigError(msg)
        if self.from_s < 0:
            msg = f"phase {self.name!r}: from_s must be >= 0, got {self.from_s}"
            raise ConfigError(msg)

    @property
    def total_rows_per_s(self) -> float:
        """What all its streams send together."""
        return self.streams_count * self.rows_per_s


@dataclass(frozen=True, kw_only=True, slots=True)
class PhasedLoad:
    """Phases that pile up within a cycle; each cycle starts with the first again.

    Attributes:
        phases: The kinds of streams; at least one starts with the cycle.
        cycle_s: Length of a cycle, in seconds.
        cycles_count: How often it is repeated.
    """

    phases: tuple[Phase, ...]
    cycle_s: float = 600.0
    cycles_count: int = 1

    def __post_init__(self) -> None:
        if not any(phase.from_s == 0 for phase in self.phases):
            raise ConfigError("phases: one of them must start at from_s=0")
        late = [phase for phase in self.phases if phase.from_s >= self.cycle_s]
        if late:
            msg = (
                f"phase {late[0].name!r}: from_s must be < cycle_s={self.cycle_s:g}, "
                f"got {late[0].from_s:g}"
            )
            raise ConfigError(msg)
        if self.cycles_count < 1:
            msg = f"cycles_count must be >= 1, got {self.cycles_count}"
            raise ConfigError(msg)

    @property
    def duration_s(self) -> float:
        """Length of all cycles, in seconds."""
        return self.cycle_s * self.cycles_count

    def running(self, at_s: float) -> tuple[Phase, ...]:
        """Return the phases whose streams send at a time of the load."""
        within_s = at_s % self.cycle_s
        return tuple(phase for phase in self.phases if phase.from_s <= within_s)

    def rows_per_s(self, at_s: float) -> float:
        """Return what all streams send together at a time of the load."""
        return sum(phase.total_rows_per_s for phase in self.running(at_s))

    def scaled(
        self, *, rate: float = 1.0, time: float = 1.0, streams: float = 1.0
    ) -> PhasedLoad:
        """Return the same shape for a smaller or larger machine.

        Args:
            rate: Factor on what each stream sends.
            time: Factor on the length of everything.
            streams: Factor on the number of streams of a phase, at least one each.

        Raises:
            ConfigError: If a factor is not positive.
        """
        for name, factor in (("rate", rate), ("time", time), ("streams", streams)):
            if factor <= 0:
                msg = f"scaled: {name} must be > 0, got {factor}"
                raise ConfigError(msg)
        return PhasedLoad(
            phases=tuple(
                replace(
                    phase,
                    streams_count=max(1, round(phase.streams_count * streams)),
                    rows_per_s=phase.rows_per_s * rate,
                    from_s=phase.from_s * time,
                )
                for phase in self.phases
            ),
            cycle_s=self.cycle_s * time,
            cycles_count=self.cycles_count,
        )

    def profile(self) -> RateProfile:
        """Return the rate of all streams together over time, for the load engine."""
        return RateProfile(
            tuple((length_s, rate, rate) for length_s, rate in self._steps()),
            " + ".join(
                f"{phase.streams_count} x {phase.rows_per_s:g}/s "
                f"from {phase.from_s:g} s"
                for phase in self.phases
            ),
        )

    def _steps(self) -> Iterator[tuple[float, float]]:
        starts = sorted({phase.from_s for phase in self.phases})
        for _ in range(self.cycles_count):
            for start_s, end_s in zip(starts, [*starts[1:], self.cycle_s], strict=True):
                yield end_s - start_s, self.rows_per_s(start_s)


# 50 streams of 1,000 rows/s; from minute 3 one more that sends three times as much as
# one of them, from minute 6 another that sends nine times as much; again after ten
# minutes: 50,000, then 53,000, then 62,000 rows/s.
DEMO_LOAD = PhasedLoad(
    phases=(
        Phase(name="baseline", streams_count=50, rows_per_s=1000),
        Phase(name="3x", streams_count=1, rows_per_s=3000, from_s=180),
        Phase(name="9x", streams_count=1, rows_per_s=9000, from_s=360),
    ),
)

# The same course, with the whole load three and nine times the baseline: one that an
# autoscaler has to answer.
SURGE_LOAD = PhasedLoad(
    phases=(
        Phase(name="baseline", streams_count=50, rows_per_s=1000),
        Phase(name="3x", streams_count=100, rows_per_s=1000, from_s=180),
        Phase(name="9x", streams_count=300, rows_per_s=1000, from_s=360),
    ),
)
