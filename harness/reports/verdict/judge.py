"""From runs to verdicts: one process run is one observation, never a round."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.reports.statistics.multiplicity import holm
from harness.reports.statistics.ratios import RUNS_MIN
from harness.reports.verdict.failures import errors_verdict, excess_probability
from harness.reports.verdict.families import MAGNITUDE, Trial, judge_family, trial_of
from harness.reports.verdict.metrics import ERRORS, GATED
from harness.reports.verdict.model import (
    CASE_STATUSES,
    CaseVerdict,
    Comparison,
    MetricVerdict,
)
from harness.reports.verdict.sides import (
    Matched,
    check_sides,
    differences,
    in_pairs,
    made_in_blocks,
    match_cases,
)
from harness.reports.verdict.thresholds import threshold_of
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.verdict.reading import Run
    from harness.reports.verdict.thresholds import ThresholdRule

# One-sided, so that "the interval of 95 % lies beyond the threshold" says the same.
LEVEL = 0.025
_NEVER = datetime.min.replace(tzinfo=UTC)
# Share of a side's runs in a bad environment past which nothing is settled.
BAD_RUNS_MAX = 0.2


def compare_runs(
    baseline: Sequence[Run],
    contender: Sequence[Run],
    *,
    rules: tuple[ThresholdRule, ...] = (),
    level: float = LEVEL,
    guard: bool = True,
) -> Comparison:
    """Compare two sides of runs, case by case.

    Args:
        baseline: Runs of the baseline.
        contender: Runs of the contender.
        rules: Thresholds that a setting asks for.
        level: One-sided level of each metric over all its cases. Whoever looks k
            times at growing sides passes a k-th of it each time.
        guard: Whether runs of a machine in no state to measure settle nothing.

    Raises:
        ReportError: If the sides must not be compared at all.
    """
    old, new = _in_order(baseline), _in_order(contender)
    paired = in_pairs(old, new)
    across = paired is None
    check_sides(old, new, across=across)
    notes = []
    if paired is not None:
        notes += [f"A and B differ: {text}" for text in differences(old, new)]
        left_out = len(old) + len(new) - len(paired[0]) - len(paired[1])
        if left_out:
            notes.append(f"{left_out} runs have no partner and were left out")
        old, new = paired
    blocked = paired is None and made_in_blocks(old, new)
    matched, settled = match_cases(old, new, across=across)
    bad = _bad_environment(old, new)
    judged = _judge(
        matched,
        rules=rules,
        level=level,
        paired=paired is not None,
        blocked=blocked,
        smoke=bool(new[0].smoke),
        bad_environment=bad if guard else "",
    )
    order = {status: rank for rank, status in enumerate(CASE_STATUSES)}
    cases = sorted(
        [*judged, *settled], key=lambda case: (order[case.status], case.fullname)
    )
    runs = min(len(old), len(new))
    if runs == 1:
        notes.append(
            "One run a side: a few percent are noise on most machines. Only errors "
            f"and changes of {MAGNITUDE:g} times and more are gated; "
            "`lakegauge ab` makes enough runs for a verdict"
        )
    elif runs < RUNS_MIN:
        notes.append(
            f"{runs} runs a side are too few for an interval: {RUNS_MIN} at least"
        )
    elif blocked:
        notes.append(
            "One side ran after the other, so a drift of the machine is part of every "
            "difference; intervals are widened by what neighbouring runs share"
        )
    if bad:
        notes.append(f"{'No verdict' if guard else 'Doubt'}: {bad}")
    if old[0].block is None:
        notes.append(
            "Not written by lakegauge: what was measured is not known to agree"
        )
    cut_short = not all(run.complete for run in new)
    if cut_short:
        notes.append("A run of the contender was cut short, so no case is missing")
    return Comparison(
        baseline=tuple(run.about for run in old),
        contender=tuple(run.about for run in new),
        cases=tuple(cases),
        level=level,
        paired=paired is not None,
        smoke=bool(new[0].smoke),
        cut_short=cut_short,
        notes=tuple(notes),
        machine_info=new[0].machine_info,
    )


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Return the runs oldest first; those that do not say when stay in their order."""
    if any(run.about.started_at is None for run in runs):
        return list(runs)
    return sorted(runs, key=lambda run: run.about.started_at or _NEVER)


def _bad_environment(*sides: Sequence[Run]) -> str:
    for runs in sides:
        bad = [run for run in runs if run.about.environment_doubts]
        if len(bad) > BAD_RUNS_MAX * len(runs):
            example = bad[0].about
            return (
                f"{len(bad)} of {counted(len(runs), 'run')} made while the machine was "
                f"in no state to measure ({example.label}: "
                f"{example.environment_doubts[0]})"
            )
    return ""


def _judge(
    matched: dict[str, Matched],
    *,
    rules: tuple[ThresholdRule, ...],
    level: float,
    paired: bool,
    blocked: bool,
    smoke: bool,
    bad_environment: str,
) -> list[CaseVerdict]:
    families: defaultdict[str, list[Trial]] = defaultdict(list)
    for fullname, case in matched.items():
        for metric in GATED[case.sample.kind]:
            if metric == ERRORS:
                continue
            trial = trial_of(
                fullname, case, metric, rules=rules, paired=paired, blocked=blocked
            )
            if trial is not None:
                families[metric].append(trial)
    found: defaultdict[str, list[MetricVerdict]] = defaultdict(list)
    for trials in families.values():
        for trial, verdict in judge_family(trials, level=level, smoke=smoke):
            found[trial.fullname].append(verdict)
    for fullname, verdict in _judge_errors(matched, rules=rules, level=level):
        found[fullname].append(verdict)
    judged = []
    for fullname, case in matched.items():
        verdicts = found[fullname]
        if bad_environment:
            verdicts = [_downgraded(v, bad_environment) for v in verdicts]
        judged.append(_case_verdict(fullname, case, verdicts))
    return judged


def _judge_errors(
    matched: dict[str, Matched], *, rules: tuple[ThresholdRule, ...], level: float
) -> list[tuple[str, MetricVerdict]]:
    cases = []
    for fullname, case in matched.items():
        if ERRORS in GATED[case.sample.kind]:
            old = [run for run in case.baseline if run is not None]
            new = [run for run in case.contender if run is not None]
            limit = threshold_of(
                ERRORS, fullname=fullname, asked=case.sample.thresholds, rules=rules
            )
            cases.append((fullname, old, new, limit))
    worse = holm([excess_probability(a, b, margin=m) for _, a, b, m in cases])
    better = holm([excess_probability(b, a, margin=m) for _, a, b, m in cases])
    return [
        (
            fullname,
            errors_verdict(
                old,
                new,
                threshold=limit,
                p_worse=worse[index],
                p_better=better[index],
                level=level,
            ),
        )
        for index, (fullname, old, new, limit) in enumerate(cases)
    ]


def _downgraded(verdict: MetricVerdict, reason: str) -> MetricVerdict:
    """Take back what was said of figures that a bad environment made.

    Failed operations stay: a busy machine is no excuse for a wrong answer.
    """
    if verdict.metric == ERRORS or verdict.status == "inconclusive":
        return verdict
    return replace(
        verdict,
        status="inconclusive",
        reason=f"{would_be(verdict.status)}{reason}",
    )


def would_be(status: str) -> str:
    """Return how the reason of a verdict begins that was taken back."""
    return f"would be {status}, but "


def _case_verdict(
    fullname: str, case: Matched, verdicts: list[MetricVerdict]
) -> CaseVerdict:
    sample = case.sample
    order = GATED[sample.kind]
    verdicts = sorted(verdicts, key=lambda verdict: order.index(verdict.metric))
    reasons = case.notes
    if not verdicts:
        return CaseVerdict(
            fullname=fullname,
            name=sample.name,
            group=sample.group,
            kind=sample.kind,
            measure=sample.measure,
            status="not comparable",
            reasons=(*reasons, f"no run has {' or '.join(order)}"),
        )
    regressed = [v for v in verdicts if v.status == "regressed"]
    return CaseVerdict(
        fullname=fullname,
        name=sample.name,
        group=sample.group,
        kind=sample.kind,
        measure=sample.measure,
        status="regressed" if regressed else verdicts[0].status,
        metrics=tuple(verdicts),
        reasons=reasons,
    )
