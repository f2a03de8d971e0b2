"""What a pool measures of itself, at a price that a checkout does not notice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from harness.load.histogram import LogLinearHistogram
from harness.postgres.pool import PoolMetrics

if TYPE_CHECKING:
    from harness.postgres.slots import Counts

# Two values per checkout; at this length a buffer is counted into the histograms,
# which costs 0.2 ms once instead of a microsecond each time.
BUFFER_LENGTH = 16_384


class Meter:
    """Durations of one pool, kept as a list until they are counted.

    Attributes:
        samples: Wait and usage of each finished checkout in turn, in nanoseconds.
            The pool appends under its lock; `swap` is called under it too.
    """

    def __init__(self) -> None:
        self.samples: list[int] = []
        self._folding = threading.Lock()
        self._checkins_count = 0
        empty = LogLinearHistogram.of(np.array([], dtype=np.int64))
        self._wait = self._usage = self._connect = self._wake = empty
        self._connects: list[int] = []
        self._wakes: list[int] = []

    def orphan(self) -> None:
        """Have a new lock, in a forked child; the old one may be held for ever."""
        self._folding = threading.Lock()

    def swap(self) -> list[int]:
        """Take the buffer, to be folded outside the pool's lock."""
        taken, self.samples = self.samples, []
        return taken

    def fold(self, samples: list[int]) -> None:
        """Count a buffer into the histograms."""
        if not samples:
            return
        values = np.array(samples, dtype=np.int64)
        with self._folding:
            self._checkins_count += len(values) // 2
            self._wait = _added(self._wait, values[0::2])
            self._usage = _added(self._usage, values[1::2])

    def connected(self, connect_ns: int, *, woke_ns: int | None) -> None:
        """Note how long a connection took to open, and to wake its server if so."""
        with self._folding:
            self._connects.append(connect_ns)
            if woke_ns is not None:
                self._wakes.append(woke_ns)

    def metrics(self, counts: Counts, *, in_use: int) -> PoolMetrics:
        """Return a snapshot; every sample taken must have been folded."""
        with self._folding:
            self._connect = _added(self._connect, np.array(self._connects, np.int64))
            self._wake = _added(self._wake, np.array(self._wakes, np.int64))
            self._connects, self._wakes = [], []
            return PoolMetrics(
                checkouts_count=self._checkins_count + in_use,
                checkins_count=self._checkins_count,
                checkout_timeouts_count=counts.checkout_timeouts,
                connect_failures_count=counts.connect_failures,
                opened_count=counts.opened,
                closed_count=counts.closed,
                leaks_count=counts.leaks,
                checkout_wait=self._wait,
                usage_time=self._usage,
                connect_time=self._connect,
                wake_time=self._wake,
            )


def _added(
    histogram: LogLinearHistogram, values: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> LogLinearHistogram:
    return LogLinearHistogram.merged([histogram, LogLinearHistogram.of(values)])
