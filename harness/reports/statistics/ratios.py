"""Contender over baseline from a few runs a side: estimate, interval, tests.

One number per run is all that is looked at. Thousands of rounds inside a process
share its memory layout, its hash seed and its minute, so they say how well that one
process was measured and nothing about the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.statistics.ranks import (
    critical_value,
    rank_sum_tail,
    signed_rank_tail,
)
from harness.reports.statistics.student import t_quantile, t_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# From here on ranks decide: below, the exact test can hardly reject, and Student's t
# was the one bound that stayed honest. Docs: methodology.md, "The verdict".
EXACT_PAIRS_MIN = 8
# So many ways to deal the runs must exist: 6 against 6 has 924, 5 against 5 has 252.
EXACT_DEALS_MIN = 400
# Runs a side below which a ratio has no interval worth showing.
RUNS_MIN = 3
# Values in a report are good to about this (histogram 0.4 %, timers); without it, two
# sides that happen to repeat a rounded value would be infinitely sure.
RESOLUTION = 0.001
# Beyond, the exact distribution costs more than it tells over Student's t.
_EXACT_CONTRASTS_MAX = 3_600


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the runs of two sides say about log(contender / baseline).

    Attributes:
        paired: Whether run i of one side was made beside run i of the other.
        baseline_runs: Runs of the baseline.
        contender_runs: Runs of the contender.
        contrasts: Sorted. Paired: the means of every two differences (Walsh
            averages). Else: each contender run minus each baseline run.
        mean: Mean difference of the logarithms.
        sd: Standard deviation of one difference (paired) or of one run (pooled).
        error: Standard error of the mean difference.
        df: Degrees of freedom of *error*; 0 with a single run a side.
        tail: Exact tail of the rank statistic; None where too few or too many runs.
        inflation: Factor by which *error* was widened because neighbouring runs
            resemble each other; above 1, Student's t must agree with the ranks.
    """

    paired: bool
    baseline_runs: int
    contender_runs: int
    contrasts: npt.NDArray[np.float64]
    mean: float
    sd: float
    error: float
    df: float
    tail: npt.NDArray[np.float64] | None
    inflation: float = 1.0

    @property
    def estimate(self) -> float:
        """Hodges-Lehmann estimate of the log ratio: the median contrast."""
        return float(np.median(self.contrasts))

    @property
    def judges_by(self) -> str:
        """The name of the interval, for a reader."""
        if self.tail is None:
            return "Student's t on log-ratios"
        return "exact signed-rank" if self.paired else "exact rank-sum"

    def resolves(self, level: float) -> bool:
        """Whether the exact test can reject at *level* with this many runs."""
        return self.tail is not None and float(self.tail[-2]) <= level

    def p_above(self, log_bound: float, *, exact: bool = True) -> float:
        """Return how likely such runs are if the log ratio is at most *log_bound*."""
        above = int((self.contrasts > log_bound).sum())
        return self._p(above, self.mean - log_bound, exact=exact)

    def p_below(self, log_bound: float, *, exact: bool = True) -> float:
        """Return how likely such runs are if the log ratio is at least *log_bound*."""
        below = int((self.contrasts < log_bound).sum())
        return self._p(below, log_bound - self.mean, exact=exact)

    def _p(self, statistic: int, distance: float, *, exact: bool) -> float:
        if not self.df:
            return 1.0
        p_values = []
        if self.tail is not None and exact:
            p_values.append(float(self.tail[statistic]))
        if not p_values or self.inflation > 1:
            p_values.append(t_tail(distance / self.error, self.df))
        return max(p_values)

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Return the interval of the log ratio; None where the runs are too few.

        With ranks it is the set of shifts that the exact test does not reject, so
        it always encloses the estimate. Student's is stretched to enclose it.
        """
        if not self.df:
            return None
        level = (1 - confidence) / 2
        low = high = self.estimate
        if self.tail is not None:
            count = critical_value(self.tail, level)
            if count > len(self.contrasts):
                return None
            low = float(self.contrasts[len(self.contrasts) - count])
            high = float(self.contrasts[count - 1])
        if self.tail is None or self.inflation > 1:
            half = t_quantile(level, self.df) * self.error
            low, high = min(low, self.mean - half), max(high, self.mean + half)
        return low, high

    def error_with(self, runs: int) -> float:
        """Return the standard error that *runs* a side would have, noise unchanged."""
        sides = 1 if self.paired else 2
        return self.inflation * self.sd * math.sqrt(sides / runs)

    def df_with(self, runs: int) -> int:
        """Return the degrees of freedom that *runs* a side would have."""
        return runs - 1 if self.paired else 2 * (runs - 1)


def paired_evidence(baseline: Sequence[float], contender: Sequence[float]) -> Evidence:
    """Weigh runs that were made in pairs, one of each side; all values above 0."""
    differences = np.log(np.asarray(contender)) - np.log(np.asarray(baseline))
    count = len(differences)
    first, second = np.triu_indices(count)
    contrasts = np.sort((differences[first] + differences[second]) / 2)
    sd = float(differences.std(ddof=1)) if count > 1 else 0.0
    sd = max(sd, RESOLUTION)
    usable = count >= RUNS_MIN
    exact = count >= EXACT_PAIRS_MIN and len(contrasts) <= _EXACT_CONTRASTS_MAX
    return Evidence(
        paired=True,
        baseline_runs=count,
        contender_runs=count,
        contrasts=contrasts,
        mean=float(differences.mean()),
        sd=sd,
        error=sd / math.sqrt(count),
        df=count - 1 if usable else 0,
        tail=signed_rank_tail(count) if exact else None,
    )


def unpaired_evidence(
    baseline: Sequence[float], contender: Sequence[float], *, blocked: bool = False
) -> Evidence:
    """Weigh runs that were not made in pairs.

    Args:
        baseline: One value a run, above 0, in the order they were made.
        contender: The same of the other side.
        blocked: Whether one side was made after the other. Then a machine that
            drifts looks like a change; how much it drifts shows in how much
            neighbouring runs of one side resemble each other.
    """
    old, new = np.log(np.asarray(baseline)), np.log(np.asarray(contender))
    n, m = len(old), len(new)
    contrasts = np.sort(np.subtract.outer(new, old).ravel())
    usable = min(n, m) >= RUNS_MIN
    old_var = max(float(old.var(ddof=1)), RESOLUTION**2) if n > 1 else 0.0
    new_var = max(float(new.var(ddof=1)), RESOLUTION**2) if m > 1 else 0.0
    inflation = _inflation(old, new) if blocked else 1.0
    square = old_var / n + new_var / m
    # Welch and Satterthwaite: the sides need not be equally noisy.
    df = 0.0
    if usable:
        parts = (old_var / n) ** 2 / (n - 1) + (new_var / m) ** 2 / (m - 1)
        df = square**2 / parts
    exact = (
        usable
        and math.comb(n + m, m) >= EXACT_DEALS_MIN
        and len(contrasts) <= _EXACT_CONTRASTS_MAX
    )
    return Evidence(
        paired=False,
        baseline_runs=n,
        contender_runs=m,
        contrasts=contrasts,
        mean=float(new.mean() - old.mean()),
        sd=max(RESOLUTION, math.sqrt((old_var + new_var) / 2)),
        error=inflation * math.sqrt(square),
        df=df,
        tail=rank_sum_tail(n, m) if exact else None,
        inflation=inflation,
    )


def _inflation(*sides: npt.NDArray[np.float64]) -> float:
    """Return how much wider the error is for runs that resemble their neighbours.

    For a first-order autoregression the variance of a mean is larger by
    (1 + r) / (1 - r). The estimate of r is too low by about (1 + 3 r) / n, which is
    put back (Marriott and Pope 1954); independent runs pay a little for that.
    """
    products = squares = 0.0
    for side in sides:
        rest = side - side.mean()
        products += float((rest[1:] * rest[:-1]).sum())
        squares += float((rest**2).sum())
    if squares <= 0:
        return 1.0
    length = min(len(side) for side in sides)
    correlation = (products / squares + 1 / length) / max(1 - 3 / length, 0.5)
    correlation = min(max(correlation, 0.0), 0.8)
    return math.sqrt((1 + correlation) / (1 - correlation))
