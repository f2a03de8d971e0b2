"""pytest's side of the verdict: thresholds by marker, and the verdict of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.compare import CaseComparison
    from harness.reports.state import ReportState
    from harness.reports.store import SavedReport
    from harness.reports.verdict.model import Comparison
    from harness.reports.verdict.thresholds import ThresholdRule

MARKER = "threshold"
RULES = pytest.StashKey[tuple["ThresholdRule", ...]]()
GUARD = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the verdict."""
    group = parser.getgroup("lakegauge")
    group.addoption(
        "--verdict-output",
        action="append",
        default=[],
        metavar="FILE",
        help="with --benchmark-compare: also write the verdicts to this file, in the "
        "form its suffix names: .json, .csv, .md or .xml (JUnit). --benchmark-compare "
        "itself is stricter here than in pytest-benchmark alone: it refuses a report "
        "that is not comparable, and fails (exit code 1) when more operations fail or "
        "a case takes ten times as long; --benchmark-compare-fail fails too when "
        "there was nothing it could compare. One run a side can say no more: see "
        "`lakegauge compare` and `lakegauge ab`",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(p50=0.05, p99='20%', ...): relative change of a metric that matters "
        "to this benchmark",
    )


def pytest_lakegauge_preflight(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check every threshold and output before any work starts.

    Raises:
        HarnessError: If one is misspelt.
    """
    for item in items:
        asked_thresholds(item)
    wanted = [Path(path) for path in config.option.verdict_output]
    # It is False by now where no report is comparable yet.
    compares = any(
        str(argument).startswith("--benchmark-compare")
        for argument in config.invocation_params.args
    )
    if wanted and not compares:
        msg = "--verdict-output needs a baseline: add --benchmark-compare"
        raise ReportError(msg)
    if wanted:
        from harness.reports.verdict.outputs import check_outputs

        check_outputs(wanted)
    if compares:
        from harness.reports.verdict.thresholds import parse_thresholds
        from harness.settings.fixtures import settings_of

        wanted_by = settings_of(config).verdict
        config.stash[RULES] = parse_thresholds(
            wanted_by.thresholds or "", source="LAKEGAUGE_THRESHOLDS"
        )
        config.stash[GUARD] = wanted_by.environment_guard == "downgrade"


def asked_thresholds(item: pytest.Item) -> dict[str, float]:
    """Return the thresholds that markers of the test ask for; the nearest wins.

    Raises:
        ConfigError: If one is misspelt.
    """
    from harness.errors import ConfigError
    from harness.reports.verdict.thresholds import checked_thresholds

    found: dict[str, float] = {}
    for marker in item.iter_markers(MARKER):
        source = f"marker {MARKER} of {item.nodeid}"
        if marker.args:
            msg = f"{source}: name the metric, such as {MARKER}(p50=0.05)"
            raise ConfigError(msg)
        found = checked_thresholds(marker.kwargs, source=source) | found
    return found


def finish_verdict(
    config: pytest.Config,
    state: ReportState,
    comparisons: Sequence[CaseComparison],
) -> tuple[list[str], bool]:
    """Judge the run against its baseline.

    Returns:
        The lines to print, and whether a case regressed. With smoke values nothing
        regresses: they prove that a case runs, not how fast.
    """
    from harness.reports.page.fixtures import finish_page

    comparison = _comparison(config, state, comparisons)
    page_lines, page_failed = finish_page(config, state, run_now(state), comparison)
    if comparison is None:
        return page_lines, page_failed
    from harness.reports.verdict.outputs import write_outputs
    from harness.reports.verdict.words import case_line, summary_line

    regressed = comparison.with_status("regressed")
    lines = [case_line(case) for case in regressed]
    lines.append(f"VERDICT (one run a side): {summary_line(comparison)}")
    lines += page_lines
    try:
        write_outputs(comparison, [Path(p) for p in config.option.verdict_output])
    except ReportError as error:
        return [*lines, str(error)], True
    return lines, page_failed or (bool(regressed) and not comparison.smoke)


def run_now(state: ReportState) -> SavedReport | None:
    """Return the run in progress as a report; None if it measured nothing."""
    if state.journal is None:
        return None
    from harness.reports.record import BLOCK, RunBlock
    from harness.reports.store import SavedReport

    document: dict[str, Any] = state.journal.document(complete=True)
    return SavedReport(
        state.journal.path, document, RunBlock.model_validate(document[BLOCK])
    )


def _comparison(
    config: pytest.Config,
    state: ReportState,
    comparisons: Sequence[CaseComparison],
) -> Comparison | None:
    report = state.baseline.report if state.baseline else None
    now = run_now(state)
    if report is None or now is None:
        return None
    from harness.reports.verdict.judge import compare_runs
    from harness.reports.verdict.reading import run_of

    # Cases that this run was not asked for are in no list of its comparisons.
    asked = {comparison.fullname for comparison in comparisons}
    baseline = run_of(report)
    cases = {name: case for name, case in baseline.cases.items() if name in asked}
    return compare_runs(
        [replace(baseline, cases=cases)],
        [run_of(now)],
        rules=config.stash.get(RULES, ()),
        guard=config.stash.get(GUARD, True),
    )
