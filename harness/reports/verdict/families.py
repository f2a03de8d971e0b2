"""One metric of all cases, judged together so that one alarm in all stays rare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.statistics.multiplicity import holm
from harness.reports.statistics.power import detectable_log_change, runs_to_settle
from harness.reports.statistics.ratios import (
    Evidence,
    paired_evidence,
    unpaired_evidence,
)
from harness.reports.verdict.metrics import METRICS
from harness.reports.verdict.model import MetricStatus, MetricVerdict
from harness.reports.verdict.thresholds import threshold_of
from harness.reports.wording import counted

if TYPE_CHECKING:
    from harness.reports.verdict.sides import Matched
    from harness.reports.verdict.thresholds import ThresholdRule

CONFIDENCE = 0.95
# A case alone is judged as strictly as one of six. Each of its metrics has a go at a
# false alarm, and where the noise is far above the threshold, the level is all that
# holds them back: without this one lone case in twenty cried wolf.
CASES_MIN = 6
# What a single run a side may call a change.
MAGNITUDE = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One metric of one case before the other cases are looked at."""

    fullname: str
    metric: str
    threshold: float
    baseline: tuple[float, ...]
    contender: tuple[float, ...]
    evidence: Evidence

    @property
    def log_threshold(self) -> float:
        """The threshold on the scale of the log ratio."""
        return math.log1p(self.threshold)

    def p_worse(self, *, exact: bool) -> float:
        """Return the p-value of "not worse by more than the threshold"."""
        if METRICS[self.metric].higher_is_better:
            return self.evidence.p_below(-self.log_threshold, exact=exact)
        return self.evidence.p_above(self.log_threshold, exact=exact)

    def p_better(self, *, exact: bool) -> float:
        """Return the p-value of "not better by more than the threshold"."""
        if METRICS[self.metric].higher_is_better:
            return self.evidence.p_above(self.log_threshold, exact=exact)
        return self.evidence.p_below(-self.log_threshold, exact=exact)


def trial_of(
    fullname: str,
    case: Matched,
    metric: str,
    *,
    rules: tuple[ThresholdRule, ...],
    paired: bool,
    blocked: bool,
) -> Trial | None:
    """Weigh one metric; None where a run of either side lacks it."""
    sample = case.sample
    old = [run.values.get(metric) if run else None for run in case.baseline]
    new = [run.values.get(metric) if run else None for run in case.contender]
    if paired:
        both = [
            (a, b)
            for a, b in zip(old, new, strict=True)
            if a is not None and b is not None
        ]
        old, new = [a for a, _ in both], [b for _, b in both]
    baseline = tuple(value for value in old if value is not None)
    contender = tuple(value for value in new if value is not None)
    if not baseline or not contender:
        return None
    evidence = (
        paired_evidence(baseline, contender)
        if paired
        else unpaired_evidence(baseline, contender, blocked=blocked)
    )
    return Trial(
        fullname=fullname,
        metric=metric,
        threshold=threshold_of(
            metric, fullname=fullname, asked=sample.thresholds, rules=rules
        ),
        baseline=baseline,
        contender=contender,
        evidence=evidence,
    )


def judge_family(
    trials: list[Trial], *, level: float, smoke: bool
) -> list[tuple[Trial, MetricVerdict]]:
    """Judge one metric of all cases together.

    Ranks decide where they can reach the level that Holm asks of the first of so
    many cases. Where there are too few runs for that, Student's t decides, and the
    ranks must agree at the level of a single case. The choice hangs on the numbers of
    runs and cases alone, so it cannot favour a result.
    """
    first_level = level / max(len(trials), CASES_MIN)
    exact = [trial.evidence.resolves(first_level) for trial in trials]
    each = list(zip(trials, exact, strict=True))
    worse = holm([t.p_worse(exact=e) for t, e in each], tests_min=CASES_MIN)
    better = holm([t.p_better(exact=e) for t, e in each], tests_min=CASES_MIN)
    judged = []
    for index, trial in enumerate(trials):
        regressed = worse[index] <= level and trial.p_worse(exact=True) <= level
        improved = better[index] <= level and trial.p_better(exact=True) <= level
        verdict = _metric_verdict(
            trial,
            regressed=regressed,
            improved=improved,
            p_regressed=worse[index],
            first_level=first_level,
            smoke=smoke,
        )
        judged.append((trial, verdict))
    return judged


def _metric_verdict(
    trial: Trial,
    *,
    regressed: bool,
    improved: bool,
    p_regressed: float,
    first_level: float,
    smoke: bool,
) -> MetricVerdict:
    evidence, limit = trial.evidence, trial.log_threshold
    interval = evidence.interval(CONFIDENCE)
    status: MetricStatus = "inconclusive"
    reason, runs_more, detectable = "", None, None
    tested = bool(evidence.df)
    if regressed:
        status = "regressed"
    elif improved:
        status = "improved"
    elif not tested:
        status, reason = _by_magnitude(trial, smoke=smoke)
    elif interval is not None and -limit <= interval[0] and interval[1] <= limit:
        status = "equivalent"
    if tested:
        change = detectable_log_change(evidence, threshold=limit, level=first_level)
        detectable = math.expm1(change)
        if METRICS[trial.metric].higher_is_better:
            detectable = -math.expm1(-change)
    if tested and status == "inconclusive":
        runs = runs_to_settle(evidence, threshold=limit, level=first_level)
        have = min(evidence.baseline_runs, evidence.contender_runs)
        runs_more = max(1, runs - have) if runs is not None else None
        reason = _why_open(detectable, runs_more)
    return MetricVerdict(
        metric=trial.metric,
        status=status,
        higher_is_better=METRICS[trial.metric].higher_is_better,
        baseline=float(np.median(trial.baseline)),
        contender=float(np.median(trial.contender)),
        ratio=math.exp(evidence.estimate),
        interval=(math.exp(interval[0]), math.exp(interval[1])) if interval else None,
        threshold=trial.threshold,
        baseline_runs=evidence.baseline_runs,
        contender_runs=evidence.contender_runs,
        paired=evidence.paired,
        method=evidence.judges_by if tested else "none: too few runs",
        p_regressed=p_regressed if tested else None,
        detectable=detectable,
        runs_more=runs_more,
        reason=reason,
    )


def _by_magnitude(trial: Trial, *, smoke: bool) -> tuple[MetricStatus, str]:
    """Say what may be said without knowing the noise: only that all went wrong."""
    change = trial.evidence.estimate
    about = METRICS[trial.metric]
    if about.higher_is_better:
        change = -change
    if abs(change) < math.log(MAGNITUDE):
        return "inconclusive", "too few runs to know the noise"
    if smoke or about.tail:
        what = "smoke values" if smoke else "the tail of one run"
        return "inconclusive", f"tenfold, but {what} may be off that much by chance"
    times = math.exp(abs(change))
    return ("regressed" if change > 0 else "improved"), f"a change of {times:.3g} times"


def _why_open(detectable: float | None, runs_more: int | None) -> str:
    """Say what would settle it."""
    seen = f"would have seen {detectable:+.1%}" if detectable is not None else ""
    if runs_more is None:
        more = "no number of runs below 200 would settle it: make it less noisy"
    else:
        runs = counted(runs_more, "more run")
        more = f"about {runs} a side would settle it"
    return f"{seen}; {more}"
