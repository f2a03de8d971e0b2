"""The plan of a run: what is done, by whom, when, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.schedules import Schedule

# Raw samples kept per process: 34 bytes each, so 68 MB. Past it a run keeps
# histograms only, whatever its length.
RAW_BUDGET = 2_000_000
# How long an operation may still run after the end of a run, before its worker is
# given up and the operation counted as unfinished.
GRACE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What both loops have in common; see `RunOptions` for the fields.

    With more than one process it is sent to each, so everything in it must be
    picklable: module-level functions, or instances of module-level classes.
    """

    operation: Callable[..., Any]
    workers: int
    processes: int = 1
    interleaved: bool = False
    process_setup: Callable[[], Any] | None = None
    process_teardown: Callable[[Any], object] | None = None
    setup: Callable[[int], Any] | None = None
    teardown: Callable[[Any], object] | None = None
    warmup_s: float = 0.0
    warmup_count: int = 0
    seed: int = 1
    grace_s: float = GRACE_S
    raw_budget: int = RAW_BUDGET

    def __post_init__(self) -> None:
        _check_finite(
            warmup_s=self.warmup_s, grace_s=self.grace_s, workers=self.workers
        )
        if self.processes < 1:
            msg = f"processes must be >= 1, got {self.processes}"
            raise ConfigError(msg)
        if self.workers < self.processes:
            msg = (
                f"workers must be >= processes={self.processes}, got {self.workers}: "
                "each process runs at least one"
            )
            raise ConfigError(msg)
        if self.warmup_s < 0 or self.warmup_count < 0:
            msg = (
                "warm-up must be >= 0, got "
                f"warmup_s={self.warmup_s} and warmup_count={self.warmup_count}"
            )
            raise ConfigError(msg)
        if self.raw_budget < 1:
            msg = f"raw_budget must be >= 1, got {self.raw_budget}"
            raise ConfigError(msg)

    def workers_of(self, rank: int) -> range:
        """Return the indices of the workers that process *rank* runs."""
        return range(rank, self.workers, self.processes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedPlan(Plan):
    """Each worker starts its next operation when its last one ended."""

    duration_s: float | None = None
    count: int | None = None
    think_time_s: float = 0.0

    def __post_init__(self) -> None:
        # Not super(): a class with slots is made anew, and its methods keep the old.
        Plan.__post_init__(self)
        if (self.duration_s is None) == (self.count is None):
            msg = (
                "give either duration_s or count, got "
                f"duration_s={self.duration_s} and count={self.count}"
            )
            raise ConfigError(msg)
        _check_finite(think_time_s=self.think_time_s, duration_s=self.duration_s or 0)
        if self.duration_s is not None and self.duration_s <= 0:
            msg = f"duration_s must be > 0, got {self.duration_s}"
            raise ConfigError(msg)
        if self.count is not None and self.count < self.processes:
            msg = f"count must be >= processes={self.processes}, got {self.count}"
            raise ConfigError(msg)
        if self.think_time_s < 0:
            msg = f"think_time_s must be >= 0, got {self.think_time_s}"
            raise ConfigError(msg)

    def count_of(self, rank: int) -> int | None:
        """Return the measured operations of process *rank*."""
        if self.count is None:
            return None
        return len(range(rank, self.count, self.processes))


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPlan(Plan):
    """Operations start when the schedule says, whatever became of earlier ones."""

    schedule: Schedule
    drain_s: float = 1.0

    def __post_init__(self) -> None:
        Plan.__post_init__(self)
        if self.warmup_count:
            msg = "an open loop warms up by time: give warmup_s, not warmup_count"
            raise ConfigError(msg)
        if self.warmup_s >= self.schedule.duration_s:
            msg = (
                f"warmup_s must be < the schedule's {self.schedule.duration_s:g} s, "
                f"got {self.warmup_s:g}"
            )
            raise ConfigError(msg)
        _check_finite(drain_s=self.drain_s)
        if self.drain_s < 0:
            msg = f"drain_s must be >= 0, got {self.drain_s}"
            raise ConfigError(msg)


def _check_finite(**settings: float) -> None:
    """Refuse what no comparison would: a limit that is no number, or never comes.

    Raises:
        ConfigError: One of *settings* is infinite or not a number.
    """
    for name, value in settings.items():
        if not math.isfinite(value):
            msg = f"{name} must be a finite number, got {value}"
            raise ConfigError(msg)
