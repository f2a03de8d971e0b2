"""What a comparison could have seen, and how many runs would settle it."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

from harness.reports.statistics.student import t_quantile

if TYPE_CHECKING:
    from harness.reports.statistics.ratios import Evidence

# Chance of seeing a change of the size that is called detectable.
POWER = 0.8
# Nobody runs more; the noise has to come down instead.
RUNS_MAX = 200


def detectable_log_change(
    evidence: Evidence, *, threshold: float, level: float
) -> float:
    """Return the smallest log ratio that would be called a change, 80 times in 100.

    Args:
        evidence: The runs, whose noise is taken for what it is.
        threshold: Practical threshold of the log ratio.
        level: Level of the one-sided test, adjusted for the number of cases.
    """
    if not evidence.df:
        return math.inf
    quantiles = t_quantile(level, evidence.df) + t_quantile(1 - POWER, evidence.df)
    return threshold + quantiles * evidence.error


def runs_to_settle(evidence: Evidence, *, threshold: float, level: float) -> int | None:
    """Return the runs a side that would settle a change of the size now estimated.

    Beyond the threshold, enough to say regressed or improved; within it, enough to
    say equivalent. None where it is more than `RUNS_MAX`, or there is no noise to
    reckon with yet.
    """
    if not evidence.df:
        return None
    margin = abs(abs(evidence.estimate) - threshold)

    def settled(runs: int) -> bool:
        df = evidence.df_with(runs)
        quantiles = t_quantile(level, df) + t_quantile(1 - POWER, df)
        return quantiles * evidence.error_with(runs) <= margin

    counts = range(2, RUNS_MAX + 1)
    found = bisect.bisect_left(counts, 1, key=settled)
    return counts[found] if found < len(counts) else None
