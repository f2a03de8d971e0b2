"""The nightly run: measure, keep, compare with the nights before, look at the history.

The workflow of a repository and a person at a terminal run the same command.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import ReportError
from harness.reports.experiments.running import Launch, run_once
from harness.reports.history.analysis import history_of
from harness.reports.history.words import change_line, drift_line
from harness.reports.store import next_report_path, saved_reports
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.outputs import as_markdown, markdown_text
from harness.reports.verdict.reading import Run, machine_reasons, read_run
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.reports.experiments.building import Built
    from harness.reports.history.model import History
    from harness.reports.verdict.model import Comparison
    from harness.reports.verdict.thresholds import ThresholdRule

SAVED_AS = "nightly"
# How many of the newest runs of earlier nights are the baseline, for each of tonight's.
BASELINE_FACTOR = 4
# A change found so long after it happened is old news, for the history to tell.
NEWS_DAYS = 14
# Reports that were passed over and are named one by one.
_NAMED_MAX = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Night:
    """What a night brought.

    Attributes:
        reports: Tonight's reports, kept for good.
        comparison: With the nights before; None in the first one.
        history: Tonight included.
        notes: Why earlier nights were passed over.
    """

    reports: tuple[Path, ...]
    comparison: Comparison | None
    history: History
    notes: tuple[str, ...] = ()

    @property
    def news(self) -> list[str]:
        """Regressions of the last days that nobody has acknowledged."""
        newest = max(
            (series.points[-1].at for series in self.history.series), default=None
        )
        if newest is None:
            return []
        since = newest - timedelta(days=NEWS_DAYS)
        return [
            change_line(series, change)
            for series, change in self.history.open_changes(since=since)
        ]

    @property
    def drifts(self) -> list[str]:
        """Series that slide slowly: told, and no reason to fail."""
        return [drift_line(series) for series in self.history.series if series.drift]

    def exit_code(self, *, allow_missing: bool, strict: bool) -> int:
        """Return 1 if anything regressed; else what `Comparison.exit_code` says."""
        if self.news:
            return 1
        if self.comparison is None:
            return 0
        return self.comparison.exit_code(allow_missing=allow_missing, strict=strict)


def measure_night(
    side: Built,
    cases: Sequence[str],
    *,
    folder: Path,
    runs: int,
    options: Sequence[str],
    say: Callable[[str], None],
    seed: int,
) -> list[Path]:
    """Run the cases in *runs* fresh processes and keep each report.

    Raises:
        ReportError: If a run leaves no report.
    """
    rng = np.random.default_rng(seed)
    kept = []
    with tempfile.TemporaryDirectory(prefix="lakegauge-nightly-") as scratch:
        for number in range(runs):
            say(f"run {number + 1} of {runs}")
            target = Path(scratch) / f"{number}.json"
            hash_seed = int(rng.integers(1, 2**32 - 1))
            launch = Launch(side=side, target=target, options=tuple(options))
            machine_id = run_once(launch, cases, hash_seed=hash_seed)
            path = next_report_path(folder, machine_id, SAVED_AS)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(target.read_bytes())
            kept.append(path)
    return kept


def judge_night(
    reports: Sequence[Path],
    *,
    folder: Path,
    age_days: int,
    rules: tuple[ThresholdRule, ...],
    guard: bool,
) -> Night:
    """Compare tonight with the nights before it.

    Args:
        reports: Tonight's reports, in the folder.
        folder: The folder of reports.
        age_days: Older nights are no baseline: too much else has changed since.
        rules: Thresholds that a setting asks for.
        guard: As in `compare_runs`.

    Raises:
        ReportError: If tonight's reports are damaged.
    """
    tonight = [read_run(path) for path in reports]
    baseline, notes = nights_before(
        tonight[0], reports, age_days=age_days, wanted=BASELINE_FACTOR * len(reports)
    )
    comparison = None
    if baseline:
        comparison = compare_runs(baseline, tonight, rules=rules, guard=guard)
    return Night(
        reports=tuple(reports),
        comparison=comparison,
        history=history_of(folder),
        notes=tuple(notes),
    )


def nights_before(
    tonight: Run, reports: Sequence[Path], *, age_days: int, wanted: int
) -> tuple[list[Run], list[str]]:
    """Return the newest runs of earlier nights that tonight may be compared with.

    Returns:
        The runs, oldest first, and a sentence for each reason that others were passed
        over for.
    """
    folder, machine_id = reports[0].parent.parent, reports[0].parent.name
    earlier = [p for p in saved_reports(folder, machine_id) if p not in reports]
    found: list[Run] = []
    passed: list[str] = []
    stale = 0
    for path in reversed(earlier):
        if not path.stem.endswith(f"_{SAVED_AS}") or len(found) == wanted:
            continue
        try:
            run = read_run(path)
        except ReportError as error:
            passed.append(str(error))
            continue
        reasons = machine_reasons(tonight, run)
        if not run.complete:
            reasons.append("it was cut short")
        if reasons:
            passed.append(f"{path.name} is not comparable: {'; '.join(reasons)}")
        elif _age_days(run, tonight) > age_days:
            stale += 1
        else:
            found.append(run)
    notes = [f"passed over: {text}" for text in passed[:_NAMED_MAX]]
    if len(passed) > _NAMED_MAX:
        notes.append(f"passed over: {len(passed) - _NAMED_MAX} more")
    if stale and len(found) < wanted:
        notes.append(
            f"passed over: {counted(stale, 'run')} older than {age_days} days "
            "(LAKEGAUGE_BASELINE_AGE_DAYS)"
        )
    if not found:
        notes.append("no earlier night can be compared with: this one is the first")
    return found[::-1], notes


def _age_days(run: Run, tonight: Run) -> float:
    if run.about.started_at is None or tonight.about.started_at is None:
        return float("inf")
    return (tonight.about.started_at - run.about.started_at) / timedelta(days=1)


def night_markdown(night: Night) -> str:
    """Return the summary of a night for a CI job."""
    lines = [f"- {markdown_text(note)}" for note in night.notes]
    if night.comparison is not None:
        lines = [as_markdown(night.comparison).rstrip("\n"), *lines]
    lines += ["", "### History", ""]
    changes = [*night.news, *night.drifts]
    lines += [f"- {markdown_text(line)}" for line in changes]
    if not changes:
        lines.append(f"No open change in the last {NEWS_DAYS} days.")
    return "\n".join(lines) + "\n"
