"""What a load run brings back: every operation accounted for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.clock import NS_PER_S
from harness.load.folding import Folded, counted

if TYPE_CHECKING:
    from harness.load.pulse import Pulse
    from harness.load.samples import SampleLog
    from harness.load.surroundings import Surroundings


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """A finished run.

    `scheduled = completed + failed + dropped + unfinished` holds for every run.

    Attributes:
        loop: "closed" or "open".
        workers: Threads or tasks that ran operations, over all processes.
        processes: Processes they ran in.
        schedule: The arrival schedule in words; None in a closed loop.
        crewing: Why these workers, where they were picked; else None.
        samples: The measured operations, failed ones included; empty if the run was
            longer than its raw budget, see `folded`.
        folded: The measured operations as histograms, for such a run.
        warmup: Operations that started before measuring began.
        measure_from_ns: When measuring began.
        wall_ns: From the start of measuring until the last operation finished.
        generator_cpu_ns: CPU time of the generator meanwhile, all processes.
        generator_cpu_ns_max: The same of the busiest process.
        dropped: Arrivals never started because the run was over.
        unfinished: Operations that had not returned when the run gave up on them.
        examples: The first error of each class, to show a cause.
        interrupted: Whether Ctrl-C ended the run early.
        surroundings: What else the machine did; None where nobody looked.
        clock_skew_ns: How far the clocks of the places that ran it may be apart; 0
            where all read one clock.
        pulse: How late the generator's code ran, in the process where it was worst;
            None where nobody looked.
    """

    loop: str
    workers: int
    samples: SampleLog
    warmup: SampleLog
    measure_from_ns: int
    wall_ns: int
    generator_cpu_ns: int
    generator_cpu_ns_max: int
    processes: int = 1
    schedule: str | None = None
    crewing: str | None = None
    folded: Folded | None = None
    dropped: int = 0
    unfinished: int = 0
    examples: dict[str, BaseException] = field(default_factory=dict)
    interrupted: bool = False
    surroundings: Surroundings | None = None
    clock_skew_ns: int = 0
    pulse: Pulse | None = None

    @cached_property
    def summary(self) -> Folded:
        """The run as histograms, however it was kept."""
        return self.folded or Folded.of(self.samples)

    @property
    def operations_by_worker(self) -> npt.NDArray[np.int64]:
        """Finished operations of each worker, shape (workers,)."""
        if self.folded is None:
            found = np.bincount(self.samples.worker, minlength=self.workers)
            return found.astype(np.int64)
        counts = np.zeros(self.workers, dtype=np.int64)
        for worker, count in self.folded.workers.items():
            counts[worker] = count
        return counts

    @property
    def completed_per_second(self) -> npt.NDArray[np.float64]:
        """Completed operations in each whole second of the run, oldest first.

        The first and the last second of the clock are left out: they are cut.
        """
        if self.folded is None:
            good = self.samples.where(self.samples.succeeded)
            per_second = counted(good.finished_ns // NS_PER_S)
        else:
            per_second = self.folded.per_second
        if not per_second:
            return np.array([])
        span = range(min(per_second) + 1, max(per_second))
        return np.array([float(per_second.get(second, 0)) for second in span])

    @property
    def completed(self) -> int:
        """Operations that finished without error."""
        if self.folded is not None:
            return self.folded.completed
        return int(self.samples.succeeded.sum())

    @property
    def failed(self) -> int:
        """Operations that raised."""
        if self.folded is not None:
            return self.folded.failed
        return len(self.samples) - self.completed

    @property
    def scheduled(self) -> int:
        """Operations the run set out to do."""
        return self.completed + self.failed + self.dropped + self.unfinished

    @property
    def errors(self) -> dict[str, int]:
        """Failed operations by class name of the error."""
        return self.samples.errors if self.folded is None else self.folded.errors

    @property
    def wall_s(self) -> float:
        """Length of the measured phase, in seconds."""
        return self.wall_ns / NS_PER_S

    @property
    def throughput_per_s(self) -> float:
        """Completed operations per second of wall time; 0 for an empty run."""
        return self.completed / self.wall_s if self.wall_ns else 0.0

    @property
    def outage_s(self) -> float | None:
        """Longest time in which nothing completed, in seconds, start and end included.

        None for a run that was kept as histograms.
        """
        if self.folded is not None:
            return None
        finished_ns = self.samples.finished_ns[self.samples.succeeded]
        end_ns = self.measure_from_ns + self.wall_ns
        at_ns = np.sort([self.measure_from_ns, *finished_ns, end_ns])
        return float(np.diff(at_ns).max()) / NS_PER_S

    @property
    def generator_cpu_utilization(self) -> float:
        """CPU time of the busiest generator process per wall time; 1.0 is a core.

        The busiest one, because its interpreter lock is what limits first.
        """
        return self.generator_cpu_ns_max / self.wall_ns if self.wall_ns else 0.0
