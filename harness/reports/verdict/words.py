"""A comparison in words: the same sentences for every form it is shown in."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from harness.reports.table import format_duration, format_rate
from harness.reports.verdict.metrics import ERRORS
from harness.reports.verdict.model import CASE_STATUSES
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.verdict.model import (
        CaseVerdict,
        Comparison,
        MetricVerdict,
        RunSummary,
    )

_LABELS_SHOWN = 3


def summary_line(comparison: Comparison) -> str:
    """Return how many cases have which status: "1 regressed, 3 equivalent"."""
    counts = Counter(case.status for case in comparison.cases)
    parts = [f"{counts[status]} {status}" for status in CASE_STATUSES if counts[status]]
    return ", ".join(parts) or "no case"


def side_line(runs: Sequence[RunSummary]) -> str:
    """Name the runs of a side, when they were made and on which commit."""
    labels = [run.label for run in runs]
    if len(runs) == 1 and runs[0].path is not None:
        labels = [str(runs[0].path)]
    if len(labels) > _LABELS_SHOWN:
        labels = [f"{labels[0]} .. {labels[-1]}"]
    commits = dict.fromkeys(
        run.commit[:9] + ("+changes" if run.dirty else "") for run in runs if run.commit
    )
    shown = f", commit {', '.join(list(commits)[:_LABELS_SHOWN])}" if commits else ""
    times = sorted(run.started_at for run in runs if run.started_at is not None)
    when = f", {times[0]:%Y-%m-%d %H:%M} UTC" if times else ""
    if len(times) > 1:
        when += f" to {times[-1]:%Y-%m-%d %H:%M}"
    return f"{counted(len(runs), 'run')}: {', '.join(labels)}{when}{shown}"


def value_text(verdict: MetricVerdict, value: float) -> str:
    """Return a side's value in the unit of its metric."""
    if verdict.metric == ERRORS:
        return f"{value:.3%}" if value else "0"
    if verdict.higher_is_better:
        return format_rate(value)
    return format_duration(value)


def change_text(verdict: MetricVerdict) -> str:
    """Return the estimated change: "+4.1 %", or the times of a large one."""
    return "-" if verdict.ratio is None else ratio_text(verdict.ratio)


def interval_text(verdict: MetricVerdict) -> str:
    """Return the 95 % interval of the change: "+1.2 .. +6.9 %"."""
    if verdict.interval is None:
        return "-"
    low, high = verdict.interval
    return f"{ratio_text(low)} .. {ratio_text(high)}"


def ratio_text(ratio: float) -> str:
    """Return a ratio as people say it."""
    if 0.2 <= ratio <= 5:  # noqa: PLR2004  # beyond, percent hide the size
        return f"{(ratio - 1) * 100:+.1f} %"
    return f"x{ratio:.3g}"


def threshold_text(verdict: MetricVerdict) -> str:
    """Return the threshold in percent."""
    return f"{verdict.threshold * 100:g} %"


def case_line(case: CaseVerdict) -> str:
    """Return the status of one case and why, in one line."""
    why = list(case.reasons)
    if case.status == "regressed":
        # What made it so, and nothing about the metrics that did not.
        regressed = [v for v in case.metrics if v.status == "regressed"]
        why += [f"{v.metric}: {v.reason or change_text(v)}" for v in regressed]
    else:
        why += [f"{v.metric}: {v.reason}" for v in shown_metrics(case) if v.reason]
    return f"{case.status.upper()}: {case.fullname}" + (
        f" ({'; '.join(why)})" if why else ""
    )


def said_cases(comparison: Comparison) -> list[CaseVerdict]:
    """Return the cases that need a line of their own.

    One that had too few runs to be tested at all does not: a note says that of all.
    """
    return [
        case
        for case in comparison.cases
        if case.status not in {"equivalent", "improved"}
        and (
            case.status != "inconclusive"
            or case.reasons
            or any(v.p_regressed is not None for v in shown_metrics(case))
        )
    ]


def shown_metrics(case: CaseVerdict) -> list[MetricVerdict]:
    """Return the metrics worth a row: the deciding one, and each that changed."""
    return [
        verdict
        for index, verdict in enumerate(case.metrics)
        if index == 0
        or verdict.status in {"regressed", "improved"}
        or (verdict.metric == ERRORS and (verdict.baseline or verdict.contender))
    ]


def method_line(comparison: Comparison) -> str:
    """Say how the verdicts were reached."""
    methods = sorted({v.method for case in comparison.judged for v in case.metrics})
    unit = ("pair", "pairs") if comparison.paired else ("run a side", "runs a side")
    count = min(len(comparison.baseline), len(comparison.contender))
    return (
        f"{counted(count, *unit)}; one value per run; "
        f"interval of 95 % ({', '.join(methods)}); "
        f"Holm over the cases of each metric, one-sided {comparison.level:.3g}"
    )
