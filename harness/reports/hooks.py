"""pytest's side of a report: baseline, filing of cases, saving, result table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ReportError
from harness.reports.fixtures import (
    MEASUREMENT,
    RECORDING_FIXTURES,
    TIMER,
    is_benchmark,
)
from harness.reports.state import ReportState
from harness.reports.verdict.fixtures import (
    asked_thresholds,
    finish_verdict,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from harness.reports.compare import CaseComparison
    from harness.reports.journal import Journal

BUILTIN_STORAGE = "file://./.benchmarks"
DEFAULT_FOLDER = "reports"
EXIT_FAILED = 1

STATE = pytest.StashKey[ReportState]()
OUTCOME = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep only stable facts, so that a difference always means something."""
    from harness.reports.machine import stable_machine_info

    stable = stable_machine_info(machine_info)
    machine_info.clear()
    machine_info.update(stable)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Silence pytest-benchmark's own check: ours has refused or accepted already.

    Its warning fires on every kernel update, and fails outright where the reports
    lie outside the current folder.
    """
    compared_benchmark["machine_info"] = machine_info


def pytest_configure(config: pytest.Config) -> None:
    """Take over saving, and choose the baseline, before any work starts."""
    if not config.pluginmanager.hasplugin("benchmark") or hasattr(
        config, "workerinput"
    ):
        return
    option = config.option
    if option.benchmark_storage == BUILTIN_STORAGE:
        option.benchmark_storage = f"file://{config.rootpath / DEFAULT_FOLDER}"
    if not option.benchmark_storage.startswith("file://"):
        return  # Elasticsearch: pytest-benchmark's own business.
    if option.smoke:
        _shrink_micro_cases(config)
    folder = Path(option.benchmark_storage.removeprefix("file://")).absolute()
    from pytest_benchmark.utils import get_machine_id

    state = config.stash[STATE] = ReportState(
        folder=folder,
        machine_id=str(get_machine_id()),  # type: ignore[no-untyped-call]  # untyped
        save_as=option.benchmark_save or option.benchmark_autosave,
        json_path=option.benchmark_json,
        include_data=bool(option.benchmark_save_data or option.benchmark_json),
    )
    option.benchmark_save = option.benchmark_autosave = option.benchmark_json = None
    if option.benchmark_compare:
        _choose_baseline(config, state)


def _shrink_micro_cases(config: pytest.Config) -> None:
    """Give pytest-benchmark's own cases their smoke value, unless one was given."""
    from pytest_benchmark.utils import SecondsDecimal

    if str(config.option.benchmark_max_time) == "1.0":
        config.option.benchmark_max_time = SecondsDecimal("0.2")


def _machine_info(config: pytest.Config) -> dict[str, Any]:
    info: dict[str, Any] = config.hook.pytest_benchmark_generate_machine_info(
        config=config
    )
    config.hook.pytest_benchmark_update_machine_info(config=config, machine_info=info)
    return info


def _choose_baseline(config: pytest.Config, state: ReportState) -> None:
    """Resolve `--benchmark-compare` to one comparable report, or to none with a note.

    Raises:
        pytest.UsageError: A report was named that is absent or not comparable, or a
            gate was asked for and there is nothing to hold the run against.
    """
    from harness.reports.baseline import resolve_baseline

    option = config.option
    try:
        state.baseline = resolve_baseline(
            None if option.benchmark_compare is True else option.benchmark_compare,
            folder=state.folder,
            machine_id=state.machine_id,
            machine_info=_machine_info(config),
            smoke=bool(option.smoke),
            required=bool(option.benchmark_compare_fail),
        )
    except ReportError as error:
        msg = f"--benchmark-compare: {error}"
        raise pytest.UsageError(msg) from None
    report = state.baseline.report
    # pytest-benchmark takes False for "do not compare".
    option.benchmark_compare = str(report.path) if report else False


@pytest.hookimpl(tryfirst=True)
def pytest_lakegauge_preflight(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make sure that what will be measured can be kept.

    Raises:
        ReportError: If the folder of reports cannot be written.
    """
    state = config.stash.get(STATE, None)
    measures = any(is_benchmark(item) for item in items)
    if state is not None and measures and not config.option.benchmark_disable:
        from harness.reports.store import prepare_folder

        prepare_folder(state.folder)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what the run is compared with and where its report goes."""
    state = config.stash.get(STATE, None)
    if state is None:
        return []
    lines = []
    if state.baseline is not None:
        if state.baseline.report is not None:
            path = state.baseline.report.path
            lines.append(f"baseline: {_shown(path, config)}")
        else:
            lines.append(
                f"baseline: none comparable in {_shown(state.folder, config)} yet; "
                "save one with --benchmark-autosave"
            )
        lines += [f"baseline: passed over: {n}" for n in state.baseline.notes[:3]]
    unfinished = sorted((state.folder / "unfinished").glob("*.json"))
    if unfinished and (state.baseline is not None or state.save_as):
        lines.append(
            f"unfinished: {len(unfinished)} killed run(s) left what they had measured; "
            f"newest: {_shown(unfinished[-1], config)}"
        )
    return lines


def _shown(path: Path, config: pytest.Config) -> str:
    try:
        return str(path.relative_to(config.rootpath))
    except ValueError:
        return str(path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every load case a timer that replays what the load engine measured."""
    from harness.reports.bridge import ReplayTimer

    for item in items:
        if RECORDING_FIXTURES & set(getattr(item, "fixturenames", ())):
            timer = item.stash[TIMER] = ReplayTimer()
            mark = item.get_closest_marker("benchmark")
            options = {**(mark.kwargs if mark else {}), "timer": timer}
            item.add_marker(pytest.mark.benchmark(**options), append=False)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Remember what was left out on purpose: it is not missing."""
    for item in items:
        state = item.config.stash.get(STATE, None)
        if state is not None:
            state.deselected.add(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """File the case once all three phases of the test are known."""
    report = yield
    if report.outcome != "passed":
        item.stash[OUTCOME] = f"{report.outcome} in {call.when}"
    if call.when == "teardown":
        try:
            _file_case(item)
        except ReportError as error:
            # What can no longer be kept need not be measured.
            item.session.shouldfail = str(error)
    return report


def _file_case(item: pytest.Item) -> None:
    state = item.config.stash.get(STATE, None)
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if state is None or not is_benchmark(item) or item.config.option.collectonly:
        return
    if fixture is not None and fixture.disabled:
        return
    outcome = item.stash.get(OUTCOME, "")
    if outcome.startswith("skipped"):
        return
    from harness.reports.bridge import finished_record, release_raw_data
    from harness.reports.journal import INVALID

    journal = _journal(item.config, state)
    if outcome:
        if fixture is not None:
            fixture.has_error = True  # pytest-benchmark leaves such records out
        journal.add_failed(item.nodeid, outcome)
        return
    if fixture is None or fixture.stats is None:
        journal.add_failed(item.nodeid, "passed, but measured nothing")
        return
    measurement = item.stash.get(MEASUREMENT, None)
    if measurement is not None and measurement.invalid:
        fixture.has_error = True
        journal.add_failed(item.nodeid, f"{INVALID}{measurement.invalid}")
        return
    facts: dict[str, Any] = {}
    for part in item.config.hook.pytest_lakegauge_facts(item=item):
        facts |= part or {}
    record = finished_record(
        fixture.stats,
        measurement,
        facts=facts,
        include_data=state.include_data,
        thresholds=asked_thresholds(item),
    )
    if measurement is not None:
        del item.stash[MEASUREMENT]
    release_raw_data(fixture.stats)
    journal.add(record)


def _journal(config: pytest.Config, state: ReportState) -> Journal:
    if state.journal is None:
        import pytest_benchmark

        from harness.reports.journal import Journal

        commit = config.hook.pytest_benchmark_generate_commit_info(config=config)
        config.hook.pytest_benchmark_update_commit_info(
            config=config, commit_info=commit
        )
        state.journal = Journal(
            state.folder,
            pid=os.getpid(),
            header={
                "machine_info": _machine_info(config),
                "commit_info": commit,
                "version": pytest_benchmark.__version__,
            },
            smoke=bool(config.option.smoke),
            watch=state.watch,
        )
    return state.journal


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(
    session: pytest.Session, exitstatus: int
) -> Generator[None, None, None]:
    """Save the report before anything else can fail."""
    state = session.config.stash.get(STATE, None)
    if state is not None:
        state.session = session
    if state is not None and (state.journal or state.save_as or state.json_path):
        try:
            _save(session.config, state, interrupted=exitstatus not in (0, 1, 5))
        except ReportError as error:
            state.messages.append(f"NOT SAVED: {error}")
            if state.journal and state.journal.path.exists():
                state.messages.append(f"what was measured is in {state.journal.path}")
            session.exitstatus = EXIT_FAILED
    yield


def _save(config: pytest.Config, state: ReportState, *, interrupted: bool) -> None:
    """Turn the journal into the report that was asked for.

    Raises:
        ReportError: If it cannot be written; the journal is kept.
    """
    from harness.reports.store import next_report_path, write_report

    journal = state.journal
    if journal is None or not journal.records:
        if journal is not None or not config.option.benchmark_disable:
            state.messages.append("nothing saved: no benchmark passed")
        return
    if interrupted:
        state.messages.append(
            f"interrupted: what was measured is in {_shown(journal.path, config)}; "
            "it is not used as a baseline"
        )
        return
    document = journal.document(complete=True)
    config.hook.pytest_benchmark_update_json(
        config=config, benchmarks=[], output_json=document
    )
    if state.save_as:
        path = next_report_path(state.folder, state.machine_id, state.save_as)
        write_report(path, document)
        state.messages.append(f"saved: {_shown(path, config)}")
    if state.json_path is not None:
        write_report(state.json_path, document)
        state.messages.append(f"saved: {state.json_path}")
    journal.discard()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: Any, config: pytest.Config
) -> Generator[None, None, None]:
    """Print our table in place of pytest-benchmark's, and what became of the report."""
    state = config.stash.get(STATE, None)
    benchmarks = getattr(config, "_benchmarksession", None)
    if state is None or benchmarks is None:
        return (yield)
    from harness.reports.bridge import gate_findings, wants_builtin_table

    comparisons = _comparisons(config, state)
    if comparisons:
        from harness.reports.table import render

        report = state.baseline.report if state.baseline else None
        terminalreporter.section("benchmarks", sep="-")
        terminalreporter.write(
            render(
                comparisons,
                baseline_label=report.label if report else None,
                color=bool(terminalreporter.hasmarkup),
            )
        )
    regressions: list[str] = []
    if config.option.benchmark_compare_fail:
        regressions = gate_findings(benchmarks, comparisons)
    verdict_lines, regressed = finish_verdict(config, state, comparisons)
    for line in verdict_lines:
        terminalreporter.write_line(line)
    for message in (*regressions, *state.messages):
        terminalreporter.write_line(message, red=message in regressions, bold=True)
    if regressions or regressed:
        state.session.exitstatus = EXIT_FAILED
    benchmarks.quiet = not wants_builtin_table(config.option)
    return (yield)


def _comparisons(config: pytest.Config, state: ReportState) -> list[CaseComparison]:
    from harness.reports.baseline import expected_cases
    from harness.reports.compare import compare_records

    report = state.baseline.report if state.baseline else None
    expected: list[str] = []
    if report is not None:
        expected = expected_cases(
            report,
            arguments=config.args,
            invocation_folder=config.invocation_params.dir,
            root=config.rootpath,
            deselected=state.deselected,
        )
    return compare_records(
        report.records if report else {},
        state.journal.records if state.journal else {},
        failed=state.journal.failed if state.journal else {},
        expected=expected,
        unusable=state.baseline.unusable if state.baseline else {},
    )
