"""Does a stream keep up with a rate? From the backlog over time, row by row.

A stream sustains a rate if its backlog does not grow: the slope of rows due but not
yet visible, over time, is at most 1 % of the rate (the bound of Theodolite's lag
trend). A short run knows the slope only so well: it fails where the slope is above
the bound by more than twice its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import SparkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.spark.feed import Feed
    from harness.spark.noise import Floats
    from harness.spark.progress import MicroBatch

SLOPE_MAX = 0.01  # of the rate
# A slope that is not known to this share of the rate can hide a stream that falls
# behind: of a rate that is 5 % too high, a twentieth of all rows is left over.
RESOLUTION_MAX = 0.05
# A generator must be able to make this many times the rate, or the result is void.
HEADROOM = 1.25
_BATCHES_MIN = 4
# Every tenth commit Delta writes a checkpoint of the table's log, which takes longer
# than the micro-batch. A run of seconds holds one of them or none, and one tilts its
# line: so tables of such runs write none, and what one costs is not in their rate.
NO_LOG_CHECKPOINTS = {
    "spark.databricks.delta.properties.defaults.checkpointInterval": "100000"
}


class TooFewBatchesError(SparkError):
    """A run has too few micro-batches to fit a line to its backlog."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """How the backlog of a run went.

    Attributes:
        rate_per_s: Rows due per second.
        slope_per_s: Rows per second that the backlog grew by.
        slope_error_per_s: Standard error of the slope.
        batches_count: Micro-batches it was read off.
    """

    rate_per_s: float
    slope_per_s: float
    slope_error_per_s: float
    batches_count: int

    @property
    def sustained(self) -> bool:
        """Whether the stream kept up, as far as the run can tell."""
        bound = SLOPE_MAX * self.rate_per_s + 2 * self.slope_error_per_s
        return self.slope_per_s <= bound

    @property
    def clearly_sustained(self) -> bool:
        """Whether the stream kept up without the benefit of the standard error."""
        return self.slope_per_s <= SLOPE_MAX * self.rate_per_s

    @property
    def decided(self) -> bool:
        """Whether the run was long and calm enough for its verdict to mean something.

        "Sustained" of a run whose slope is known to a tenth of the rate only says that
        the run was short: twice the standard error must be within `RESOLUTION_MAX`.
        A backlog that clearly grows is decided however noisy.
        """
        return (
            not self.sustained
            or 2 * self.slope_error_per_s <= RESOLUTION_MAX * self.rate_per_s
        )

    def figures(self) -> dict[str, float]:
        """Return what a record says of it."""
        return {
            "rate_per_s": round(self.rate_per_s, 1),
            "backlog_slope_share": round(self.slope_per_s / self.rate_per_s, 4),
            "backlog_slope_error_share": round(
                self.slope_error_per_s / self.rate_per_s, 4
            ),
        }


def backlog_over_time(
    batches: Sequence[MicroBatch], feed: Feed, *, since_ns: int
) -> tuple[Floats, Floats]:
    """Return seconds since the start, and rows due but not visible then.

    Read off when each micro-batch became visible, just before its rows count.
    """
    at_s = np.array([b.visible_at.timestamp() - since_ns / NS_PER_S for b in batches])
    due = np.array([feed.due_count(float(t)) for t in at_s], dtype=np.float64)
    before = np.array([b.ranges[0][0] for b in batches], dtype=np.float64)
    return at_s, due - before


def backlog_trend(
    batches: Sequence[MicroBatch],
    feed: Feed,
    *,
    since_ns: int,
    rate_per_s: float,
    warmup_s: float,
) -> Trend:
    """Fit a line to the backlog after the warm-up, by least squares.

    Raises:
        TooFewBatchesError: If too few micro-batches were left to fit one.
    """
    at_s, backlog = backlog_over_time(batches, feed, since_ns=since_ns)
    # While rows still come: after the last one the backlog can only fall.
    last_due_s = float(feed.due_s(np.array([feed.rows_count - 1]))[0])
    used = (at_s >= warmup_s) & (at_s <= last_due_s)
    if used.sum() < _BATCHES_MIN:
        msg = (
            f"{int(used.sum())} micro-batches after {warmup_s:g} s of warm-up are too "
            f"few to tell a trend; run longer than {last_due_s:.1f} s"
        )
        raise TooFewBatchesError(msg)
    x, y = at_s[used] - at_s[used].mean(), backlog[used]
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    variance = float((rest * rest).sum()) / (len(x) - 2)
    return Trend(
        rate_per_s=rate_per_s,
        slope_per_s=slope,
        slope_error_per_s=float(np.sqrt(variance / (x * x).sum())),
        batches_count=len(x),
    )


def catch_up_time_s(
    batches: Sequence[MicroBatch],
    feed: Feed,
    *,
    since_ns: int,
    burst_starts_s: float,
    burst_ends_s: float,
) -> float | None:
    """Return how long after a burst the backlog was as low as before it.

    Compared with the highest backlog before the burst; None if it never was.
    """
    at_s, backlog = backlog_over_time(batches, feed, since_ns=since_ns)
    before = backlog[at_s < burst_starts_s]
    if not len(before):
        return None
    calm = (at_s >= burst_ends_s) & (backlog <= before.max())
    return float(at_s[calm][0] - burst_ends_s) if calm.any() else None
