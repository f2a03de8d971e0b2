"""Samples folded into histograms: a run of any length in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from harness.clock import NS_PER_S
from harness.load.histogram import LogLinearHistogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.load.samples import SampleLog

Key = TypeVar("Key")
Number = TypeVar("Number", int, float)

PARTS = ("start_delay", "checkout_wait", "service_time", "response_time")


@dataclass(frozen=True, slots=True)
class Folded:
    """What is kept of samples that are not kept themselves; adds up by `merged`.

    Attributes:
        histograms: Of each part in `PARTS`, of operations that succeeded.
        errors: Failed operations by class name.
        per_second: Second of the clock -> completed operations that ended in it.
        workers: Worker index -> operations it finished.
        finished_max_ns: When the last operation finished; 0 without any.
        dependence: By quantile, how many successive response times are worth one
            independent one, from those whose order was known; see
            `harness.load.intervals.dependences`.
    """

    histograms: dict[str, LogLinearHistogram]
    errors: dict[str, int] = field(default_factory=dict)
    per_second: dict[int, int] = field(default_factory=dict)
    workers: dict[int, int] = field(default_factory=dict)
    finished_max_ns: int = 0
    dependence: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, log: SampleLog) -> Folded:
        """Fold a log; its rows are no longer needed afterwards."""
        good = log.where(log.succeeded)
        return cls(
            histograms={
                part: LogLinearHistogram.of(getattr(good, f"{part}_ns"))
                for part in PARTS
            },
            errors=log.errors,
            per_second=counted(good.finished_ns // NS_PER_S),
            workers=counted(log.worker),
            finished_max_ns=int(log.finished_ns.max()) if len(log) else 0,
        )

    @classmethod
    def merged(cls, parts: Sequence[Folded]) -> Folded:
        """Add what several workers folded; the order does not matter."""
        return cls(
            histograms={
                name: LogLinearHistogram.merged([p.histograms[name] for p in parts])
                for name in PARTS
            },
            errors=_added([part.errors for part in parts]),
            per_second=_added([part.per_second for part in parts]),
            workers=_added([part.workers for part in parts]),
            finished_max_ns=max((p.finished_max_ns for p in parts), default=0),
            # Processes wait for the same server: what is worth one sample in each
            # is worth one sample in all of them together.
            dependence=_added([part.dependence for part in parts]),
        )

    @classmethod
    def of_share(cls, log: SampleLog, rest: Sequence[Folded]) -> Folded:
        """Fold the first samples of a share, whose order is known, with the *rest*."""
        from harness.load.intervals import dependences

        good = log.where(log.succeeded)
        order = np.argsort(good.intended_ns, kind="stable")
        seen = dependences(good.response_time_ns[order])
        return replace(cls.merged([cls.of(log), *rest]), dependence=seen)

    @property
    def completed(self) -> int:
        """Operations that finished without error."""
        return len(self.histograms["response_time"])

    @property
    def failed(self) -> int:
        """Operations that raised."""
        return sum(self.errors.values())


def counted(values: npt.NDArray[Any]) -> dict[int, int]:
    """Return how often each value occurs."""
    if not len(values):
        return {}
    # Seconds of one run, or worker indices: close together, so counting is cheap.
    first = int(values.min())
    counts = np.bincount(values.astype(np.int64) - first)
    return {first + int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def _added(parts: Sequence[dict[Key, Number]]) -> dict[Key, Number]:
    total: dict[Key, Number] = {}
    for part in parts:
        for key, count in part.items():
            total[key] = total[key] + count if key in total else count
    return total
