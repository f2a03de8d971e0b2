"""How long one operation takes: since the start, and in a window that moves along."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_MS
from harness.load.histogram import LogLinearHistogram, bucket_bounds, bucket_index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

# A window moves by a slot at a time: one of 300 s covers the last 290 to 300 s.
SLOTS_PER_WINDOW = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """What is said of a set of operations.

    Attributes:
        count: Operations, failed ones included.
        failed_count: Those that failed.
        total_ns: Sum of their durations.
        histogram: Their durations.
    """

    count: int
    failed_count: int
    total_ns: int
    histogram: LogLinearHistogram

    @property
    def success_pct(self) -> float | None:
        """Share of operations that succeeded, 0 to 100; None of none."""
        if not self.count:
            return None
        return 100 * (self.count - self.failed_count) / self.count

    @property
    def average_ms(self) -> float | None:
        """Mean duration in milliseconds; None of none."""
        return self.total_ns / self.count / NS_PER_MS if self.count else None

    def quantile_ms(self, q: float) -> float | None:
        """Return the duration that a share *q* does not exceed; None of none.

        It is given for any number of operations, so read it beside `count`: p99 of
        fifty is their longest.
        """
        if not len(self.histogram):
            return None
        return self.histogram.quantile(q) / NS_PER_MS


def merged(parts: Iterable[Times]) -> Times:
    """Return the sum of several."""
    all_parts = list(parts)
    return Times(
        count=sum(part.count for part in all_parts),
        failed_count=sum(part.failed_count for part in all_parts),
        total_ns=sum(part.total_ns for part in all_parts),
        histogram=LogLinearHistogram.merged([part.histogram for part in all_parts]),
    )


def difference(
    newer: LogLinearHistogram, older: LogLinearHistogram
) -> LogLinearHistogram:
    """Return what was counted between two states of one histogram.

    Its extremes are known to a bucket only, 0.4 % of their value.
    """
    counts = newer.counts - older.counts
    filled = np.flatnonzero(counts)
    if not len(filled):
        return LogLinearHistogram(counts)
    low, high = bucket_bounds(filled[[0, -1]])
    return LogLinearHistogram(
        counts,
        max(int(low[0]), newer.value_min),
        min(int(high[1]), newer.value_max),
    )


def total_ns(histogram: LogLinearHistogram) -> float:
    """Return the sum of what a histogram counts, within 0.4 %."""
    filled = np.flatnonzero(histogram.counts)
    low, high = bucket_bounds(filled)
    return float(((low + high) / 2 * histogram.counts[filled]).sum())


@dataclass(slots=True)
class _Slot:
    """A short time of one operation; sparse, because most buckets stay empty."""

    number: int
    count: int = 0
    failed_count: int = 0
    total_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0
    buckets: Counter[int] = field(default_factory=Counter)


class OperationTimes:
    """Durations of one operation, since the start and in the last window.

    Memory is bounded: one dense histogram, and a slot's filled buckets. Callers
    see to it that only one thread is in here at a time.
    """

    def __init__(self) -> None:
        self._whole = Times(
            count=0,
            failed_count=0,
            total_ns=0,
            histogram=LogLinearHistogram.of(np.array([], dtype=np.int64)),
        )
        self._slots: deque[_Slot] = deque(maxlen=SLOTS_PER_WINDOW)
        self.errors: Counter[str] = Counter()
        self.slowest: Mapping[str, Any] | None = None
        self._slowest_ns = -1

    def add(
        self,
        durations_ns: npt.NDArray[np.int64],
        *,
        slot_number: int,
        failures: Iterable[str] = (),
    ) -> None:
        """Count operations that ended in one slot.

        Args:
            durations_ns: Of all of them, shape (n,), n > 0.
            slot_number: Number of the slot of time.
            failures: Category of each that failed.
        """
        failures = list(failures)
        part = LogLinearHistogram.of(durations_ns)
        self.errors.update(failures)
        self._whole = merged(
            [
                self._whole,
                Times(
                    count=len(durations_ns),
                    failed_count=len(failures),
                    total_ns=int(durations_ns.sum()),
                    histogram=part,
                ),
            ]
        )
        slot = self._slot(slot_number)
        slot.min_ns = min(slot.min_ns, part.value_min) if slot.count else part.value_min
        slot.max_ns = max(slot.max_ns, part.value_max)
        slot.count += len(durations_ns)
        slot.failed_count += len(failures)
        slot.total_ns += int(durations_ns.sum())
        buckets, counts = np.unique(bucket_index(durations_ns), return_counts=True)
        slot.buckets.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def remember_slowest(
        self, duration_ns: int, about: Mapping[str, Any] | None
    ) -> None:
        """Keep what is known of the slowest operation so far."""
        if duration_ns > self._slowest_ns:
            self._slowest_ns, self.slowest = duration_ns, about

    def whole(self) -> Times:
        """Return everything since the start."""
        return self._whole

    def window(self, slot_number: int) -> Times:
        """Return what ended in the window that ends with this slot."""
        first = slot_number - SLOTS_PER_WINDOW
        slots = [slot for slot in self._slots if slot.number > first]
        counts = np.zeros_like(self._whole.histogram.counts)
        for slot in slots:
            counts[list(slot.buckets)] += list(slot.buckets.values())
        return Times(
            count=sum(slot.count for slot in slots),
            failed_count=sum(slot.failed_count for slot in slots),
            total_ns=sum(slot.total_ns for slot in slots),
            histogram=LogLinearHistogram(
                counts,
                min((slot.min_ns for slot in slots), default=0),
                max((slot.max_ns for slot in slots), default=0),
            ),
        )

    def _slot(self, number: int) -> _Slot:
        # Rows of several threads come nearly in order: a late one joins the last slot.
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(_Slot(number))
        return self._slots[-1]
