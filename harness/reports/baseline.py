"""Choosing the report a run is compared with: comparable, or none with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ReportError
from harness.reports.machine import machine_differences
from harness.reports.store import SavedReport, saved_reports
from harness.reports.verdict.reading import read_report, run_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class BaselineChoice:
    """The report to compare with, or why there is none.

    Attributes:
        report: The newest comparable report, or None.
        notes: One sentence per report that was passed over, newest first.
        unusable: Cases of the report that nothing is compared with, and why.
    """

    report: SavedReport | None
    notes: tuple[str, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)


def newest_comparable(
    paths: Iterable[Path], *, machine_info: dict[str, Any], smoke: bool
) -> BaselineChoice:
    """Take the newest report that this run may be compared with.

    Args:
        paths: Candidates, oldest first.
        machine_info: Of this run.
        smoke: Whether this run uses smoke values.
    """
    notes: list[str] = []
    for path in reversed(list(paths)):
        try:
            report, unusable = _read(path)
        except ReportError as error:
            notes.append(str(error))
            continue
        reasons = why_not_comparable(report, machine_info=machine_info, smoke=smoke)
        if not reasons:
            return BaselineChoice(report, tuple(notes), unusable)
        notes.append(f"{path.name} is not comparable: {'; '.join(reasons)}")
    return BaselineChoice(None, tuple(notes))


def why_not_comparable(
    report: SavedReport, *, machine_info: dict[str, Any], smoke: bool
) -> list[str]:
    """Return the reasons why the report is no baseline for this run, if any."""
    if report.run is None:
        return ["it was not written by lakegauge, so its conditions are unknown"]
    reasons = machine_differences(report.data["machine_info"], machine_info)
    if report.run.smoke != smoke:
        words = {True: "smoke values", False: "full values"}
        reasons.append(f"saved with {words[report.run.smoke]}, now {words[smoke]}")
    return reasons


def resolve_baseline(
    wanted: str | None,
    *,
    folder: Path,
    machine_id: str,
    machine_info: dict[str, Any],
    smoke: bool,
    required: bool,
) -> BaselineChoice:
    """Find the report to compare with.

    Args:
        wanted: A number, a name or a path; None for the newest comparable one.
        folder: The folder of reports.
        machine_id: Its subfolder for this kind of machine.
        machine_info: Of this run.
        smoke: Whether this run uses smoke values.
        required: Whether to have none is an error.

    Raises:
        ReportError: If the named report is absent or not comparable (whoever names
            one wants that one), or if one is required and there is none.
    """
    if wanted is not None:
        path = _named_path(wanted, folder=folder, machine_id=machine_id)
        report, unusable = _read(path)
        reasons = why_not_comparable(report, machine_info=machine_info, smoke=smoke)
        if reasons:
            msg = (
                f"reports are not comparable: {report.path.name}: {'; '.join(reasons)}"
            )
            raise ReportError(msg)
        return BaselineChoice(report, unusable=unusable)
    choice = newest_comparable(
        saved_reports(folder, machine_id), machine_info=machine_info, smoke=smoke
    )
    if required and choice.report is None:
        msg = (
            f"a gate needs a baseline and there is no comparable report in {folder}; "
            "run once with --benchmark-autosave"
        )
        raise ReportError("; ".join((msg, *choice.notes)))
    return choice


def _read(path: Path) -> tuple[SavedReport, dict[str, str]]:
    """Read a report with distrust: it may have come from anywhere.

    Raises:
        ReportError: If it cannot be read or is damaged where it matters.
    """
    report = read_report(path)
    run = run_of(report, identify=False)
    unusable = {name: case.problem for name, case in run.cases.items() if case.problem}
    unusable |= dict.fromkeys(run.repeated, "the baseline has it more than once")
    return report, unusable


def _named_path(wanted: str, *, folder: Path, machine_id: str) -> Path:
    path = Path(wanted)
    if path.is_file():
        return path.absolute()
    reports = saved_reports(folder, machine_id)
    number = wanted.zfill(4) if wanted.isdigit() else wanted
    found = [p for p in reports if p.name.startswith(number) or p.match(wanted)]
    if len(found) == 1:
        return found[0]
    numbers = ", ".join(p.name.split("_")[0] for p in reports[-5:]) or "none yet"
    what = "more than one report matches" if found else "no saved report matches"
    msg = f"{what} {wanted!r} in {folder / machine_id} (last saved: {numbers})"
    raise ReportError(msg)


def expected_cases(
    baseline: SavedReport,
    *,
    arguments: Iterable[str],
    invocation_folder: Path,
    root: Path,
    deselected: set[str],
) -> list[str]:
    """Return the baseline's cases that this run was asked to measure.

    A case outside the files that were named on the command line, or deselected by
    `-k` or `-m`, is not missing: it was not asked for.
    """
    scopes = []
    for argument in arguments:
        path, _, inner = argument.partition("::")
        scopes.append(((invocation_folder / path).resolve(), inner))
    expected = []
    for fullname in baseline.records:
        path, _, inner = fullname.partition("::")
        try:
            file = (root / path).resolve()
        except (OSError, RuntimeError, ValueError):
            continue  # No name of a file: no case was ever called that.
        asked = any(
            (file == scope or scope in file.parents) and inner.startswith(wanted)
            for scope, wanted in scopes
        )
        if asked and fullname not in deselected:
            expected.append(fullname)
    return expected
