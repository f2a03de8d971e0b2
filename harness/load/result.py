"""What a load run brings back: every operation accounted for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.load.samples import SampleLog


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadResult:
    """A finished run.

    `scheduled = completed + failed + dropped + unfinished` holds for every run.

    Attributes:
        loop: "closed" or "open".
        workers: Threads that ran operations.
        samples: The measured operations, failed ones included.
        warmup: Operations that started before measuring began.
        wall_ns: From the start of measuring until the last operation finished.
        generator_cpu_ns: CPU time of this process meanwhile, all threads.
        dropped: Arrivals never started because a bound was hit.
        unfinished: Operations that had not returned when the run gave up on them.
        examples: The first error of each class, to show a cause.
    """

    loop: str
    workers: int
    samples: SampleLog
    warmup: SampleLog
    wall_ns: int
    generator_cpu_ns: int
    dropped: int = 0
    unfinished: int = 0
    examples: dict[str, BaseException] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        """Operations that finished without error."""
        return int(self.samples.succeeded.sum())

    @property
    def failed(self) -> int:
        """Operations that raised."""
        return len(self.samples) - self.completed

    @property
    def scheduled(self) -> int:
        """Operations the run set out to do."""
        return len(self.samples) + self.dropped + self.unfinished

    @property
    def errors(self) -> dict[str, int]:
        """Failed operations by class name of the error."""
        return self.samples.errors

    @property
    def wall_s(self) -> float:
        """Length of the measured phase, in seconds."""
        return self.wall_ns / NS_PER_S

    @property
    def throughput_per_s(self) -> float:
        """Completed operations per second of wall time; 0 for an empty run."""
        return self.completed / self.wall_s if self.wall_ns else 0.0

    @property
    def generator_cpu_utilization(self) -> float:
        """CPU time of this process per wall time; 1.0 is one whole core."""
        return self.generator_cpu_ns / self.wall_ns if self.wall_ns else 0.0
