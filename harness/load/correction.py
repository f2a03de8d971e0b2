"""What a closed loop might have seen had it not waited: corrected, not measured.

A caller that waits for a slow answer does not ask meanwhile, so the callers who would
have waited too are missing from the samples. HdrHistogram's correction puts them in
afterwards (Tene, `recordValueWithExpectedInterval`): for a value v and an expected
interval i it adds v - i, v - 2i, ... down to i. It guesses: it makes up waiting where
there was none but slow answers, and finds less than there was where several callers
shared a stall. Only a schedule measures it: see `run_open_loop`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_MS, NS_PER_S
from harness.errors import ConfigError
from harness.load.histogram import LogLinearHistogram, bucket_bounds
from harness.load.quantiles import QUANTILES, samples_needed

if TYPE_CHECKING:
    from harness.load.result import LoadResult


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrectedCurve:
    """A closed loop's response times, as measured and as corrected.

    Attributes:
        measured: What the loop saw.
        corrected: With the callers added who are missing in theory.
        expected_interval_ns: How far apart the starts of one worker should have been.
    """

    measured: LogLinearHistogram
    corrected: LogLinearHistogram
    expected_interval_ns: int

    @property
    def label(self) -> str:
        """One line for a report: what this is, and what it is not."""
        interval_ms = self.expected_interval_ns / NS_PER_MS
        return (
            "corrected after the fact for one start per worker every "
            f"{interval_ms:.3g} ms: a guess, no substitute for an open loop"
        )

    def side_by_side_ms(self) -> dict[str, dict[str, float]]:
        """Return both curves for a report, leaving out unsupported quantiles.

        {"p99": {"uncorrected": 8.3, "corrected": 48.1}}; what the samples cannot
        support stays out of both: made-up samples support nothing.
        """
        return {
            key: {
                "uncorrected": round(self.measured.quantile(q) / NS_PER_MS, 6),
                "corrected": round(self.corrected.quantile(q) / NS_PER_MS, 6),
            }
            for key, q in QUANTILES.items()
            if len(self.measured) >= samples_needed(q)
        }


def corrected_curve(
    result: LoadResult, *, expected_interval_s: float | None = None
) -> CorrectedCurve:
    """Correct the response times of a closed loop.

    Args:
        result: A run of `run_closed_loop`.
        expected_interval_s: How far apart the starts of one worker should have been;
            by default how far apart they were on average, think time included.

    Raises:
        ConfigError: If the run was an open loop, which needs no correction, if it
            completed nothing, or if the interval is not positive.
    """
    if result.loop != "closed":
        msg = "an open loop is timed from its schedule: it needs no correction"
        raise ConfigError(msg)
    if not result.completed:
        msg = "no operation completed, so there is nothing to correct"
        raise ConfigError(msg)
    if expected_interval_s is None:
        finished = result.completed + result.failed
        expected_interval_s = result.wall_s * result.workers / finished
    measured = result.summary.histograms["response_time"]
    interval_ns = round(expected_interval_s * NS_PER_S)
    return CorrectedCurve(
        measured=measured,
        corrected=corrected(measured, expected_interval_ns=interval_ns),
        expected_interval_ns=interval_ns,
    )


def corrected(
    histogram: LogLinearHistogram, *, expected_interval_ns: int
) -> LogLinearHistogram:
    """Add the values that a generator which waits did not record.

    Each bucket stands for its middle. How many of v - i, v - 2i, ... i lie at or
    above a bucket's lower bound b is (v - max(b, i)) // i, so the buckets are filled
    by subtraction, however many values that makes.

    Raises:
        ConfigError: If the interval is not positive.
    """
    interval = expected_interval_ns
    if interval <= 0:
        msg = f"the expected interval must be > 0 ns, got {interval}"
        raise ConfigError(msg)
    index = np.flatnonzero(histogram.counts)
    bucket_low, bucket_high = bucket_bounds(index)
    values = np.clip(
        (bucket_low + bucket_high) // 2, histogram.value_min, histogram.value_max
    )
    slow = values >= 2 * interval
    if not slow.any():
        return histogram
    # One bucket more than there is: nothing is at or above its bound.
    bounds, _ = bucket_bounds(np.arange(len(histogram.counts) + 1))
    floors = np.maximum(bounds, interval)
    at_or_above = np.zeros_like(bounds)
    for value, count in zip(values[slow], histogram.counts[index[slow]], strict=True):
        at_or_above += count * np.maximum((value - floors) // interval, 0)
    return LogLinearHistogram(
        histogram.counts + (at_or_above[:-1] - at_or_above[1:]),
        min(histogram.value_min, _smallest_added(values[slow], interval)),
        histogram.value_max,
    )


def _smallest_added(values: np.ndarray[tuple[int], np.dtype[np.int64]], i: int) -> int:
    """Return the last of v - i, v - 2i, ... that is not below i, over all values."""
    return int((values % i + i).min())
