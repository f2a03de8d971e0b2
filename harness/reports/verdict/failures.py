"""The metric "errors": operations that failed, of those that were asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.statistics.student import t_tail
from harness.reports.verdict.metrics import ERRORS
from harness.reports.verdict.model import MetricVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.verdict.metrics import CaseRun
    from harness.reports.verdict.model import MetricStatus

# A single run a side may gate errors, so it asks for more than the usual level.
SINGLE_LEVEL = 0.001


def excess_probability(
    baseline: Sequence[CaseRun], contender: Sequence[CaseRun], *, margin: float
) -> float:
    """Return how likely so many more failures are if the rate had not risen.

    Given the total, failures fall on a side by its share of operations (the exact
    conditional test of two Poisson rates). Runs differ by more than Poisson says, as
    when a server restarts in one of them, so with several runs a side the means of
    the runs must differ too (Welch's t); the larger p-value counts.

    Args:
        baseline: Runs of the baseline.
        contender: Runs of the contender.
        margin: Share of operations by which the rate may rise without mattering.
    """
    old_operations = sum(run.operations for run in baseline)
    new_operations = sum(run.operations for run in contender)
    old_failed = sum(run.failed for run in baseline)
    new_failed = sum(run.failed for run in contender)
    # The margin is allowed for as failures that the baseline may have had as well.
    allowed = old_failed + margin * old_operations
    if not new_operations or not old_operations:
        return 1.0
    if new_failed / new_operations <= allowed / old_operations:
        return 1.0
    share = new_operations / (old_operations + new_operations)
    p_counts = _binomial_tail(new_failed, round(allowed) + new_failed, share)
    if min(len(baseline), len(contender)) < 2:  # noqa: PLR2004  # no spread to be had
        return p_counts
    return max(p_counts, _welch(_shares(contender), _shares(baseline), margin))


def _welch(new: list[float], old: list[float], margin: float) -> float:
    """Return the p-value of the means of *new* being at most those of *old* + margin.

    A side whose runs all agree, as where none fails, is given the spread that counts
    of one would have.
    """
    n, m = len(new), len(old)
    new_var, old_var = float(np.var(new, ddof=1)), float(np.var(old, ddof=1))
    square = new_var / n + old_var / m
    distance = float(np.mean(new) - np.mean(old)) - margin
    if square <= 0:
        return 0.0 if distance > 0 else 1.0
    parts = (new_var / n) ** 2 / (n - 1) + (old_var / m) ** 2 / (m - 1)
    return t_tail(distance / math.sqrt(square), square**2 / parts)


def _shares(runs: Sequence[CaseRun]) -> list[float]:
    return [run.failed / max(1, run.operations) for run in runs]


def _binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return P(X >= successes) of a binomial count, summed in logarithms."""
    if successes <= 0:
        return 1.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    terms = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * log_share
        + (trials - k) * log_rest
        for k in _terms(successes, trials)
    ]
    largest = max(terms)
    total = math.exp(largest) * sum(math.exp(term - largest) for term in terms)
    return min(1.0, total)


def _terms(first: int, last: int) -> range:
    """Return the counts worth adding: past some thousands the rest is nothing."""
    return range(first, min(last, first + 5_000) + 1)


def errors_verdict(
    baseline: Sequence[CaseRun],
    contender: Sequence[CaseRun],
    *,
    threshold: float,
    p_worse: float,
    p_better: float,
    level: float,
) -> MetricVerdict:
    """Judge the failures of one case by its Holm-adjusted p-values."""
    single = min(len(baseline), len(contender)) == 1
    limit = SINGLE_LEVEL if single else level
    old, new = _shares(baseline), _shares(contender)
    status: MetricStatus = "inconclusive"
    reason = "more failed than in the baseline, but not surely more than chance gives"
    if p_worse <= limit:
        status = "regressed"
        failed = sum(run.failed for run in contender)
        operations = sum(run.operations for run in contender)
        before = sum(run.failed for run in baseline)
        reason = f"{failed:,} of {operations:,} operations failed, before {before:,}"
    elif p_better <= limit:
        status, reason = "improved", "fewer operations failed than in the baseline"
    elif np.mean(new) <= np.mean(old) + threshold:
        status, reason = "equivalent", ""
    return MetricVerdict(
        metric=ERRORS,
        status=status,
        higher_is_better=False,
        baseline=float(np.mean(old)),
        contender=float(np.mean(new)),
        ratio=None,
        interval=None,
        threshold=threshold,
        baseline_runs=len(baseline),
        contender_runs=len(contender),
        paired=False,
        method="exact test of two counts" + ("" if single else ", and Welch's t"),
        p_regressed=p_worse,
        reason=reason,
    )
