"""The folder of saved reports, read with distrust: a file may be damaged or hostile."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import psutil
from pydantic import ValidationError

from harness.errors import ReportError
from harness.monitor.views import CaseView, State
from harness.reports.baseline import why_not_comparable
from harness.reports.compare import CaseComparison, compare_records
from harness.reports.printable import printable
from harness.reports.record import BLOCK, RunBlock
from harness.reports.store import UNFINISHED, SavedReport, load_report

# A full run writes 0.2 MB. Parsed JSON needs about ten times its size.
REPORT_BYTES_MAX = 32_000_000
# The newest; older ones are named in a note and stay on disk.
REPORTS_MAX = 100
_NOTE_CHARACTERS_MAX = 500

_PID = re.compile(r"\d{8}_\d{6}-(\d+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedRun:
    """One report of the folder that every reader here may rely on.

    Attributes:
        label: Unique in the folder: "0003", or its path where numbers clash.
        report: As it was read, without raw values and histograms.
        run: Our block of it.
        cases: What is shown of its records.
        started_at: When the run started, in UTC.
    """

    label: str
    report: SavedReport
    run: RunBlock
    cases: tuple[CaseView, ...]
    started_at: datetime

    def why_no_baseline_of(self, contender: SavedRun) -> list[str]:
        """Return the reasons why *contender* must not be compared with this run."""
        return why_not_comparable(
            self.report,
            machine_info=contender.report.data["machine_info"],
            smoke=contender.run.smoke,
        )

    def compared_with(self, baseline: SavedRun | None) -> list[CaseComparison]:
        """Return every case of this run beside the baseline's, and those missing."""
        old = baseline.report.records if baseline else {}
        return compare_records(
            old, self.report.records, failed=self.run.failed, expected=old
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What the folder held when it was looked at.

    Attributes:
        runs: Readable reports, newest first.
        notes: One sentence for each report that is not among them.
    """

    runs: tuple[SavedRun, ...]
    notes: tuple[str, ...]

    def find(self, label: str) -> SavedRun | None:
        """Return the run of that label."""
        return next((run for run in self.runs if run.label == label), None)

    def baseline_of(self, contender: SavedRun) -> SavedRun | None:
        """Return the newest complete run before *contender* it may be compared with."""
        earlier = (
            run
            for run in self.runs
            if run.run.complete and run.started_at < contender.started_at
        )
        return next((r for r in earlier if not r.why_no_baseline_of(contender)), None)


def read_run(path: Path) -> SavedRun:
    """Read one report and check all that is shown or compared of it.

    Raises:
        ReportError: If it cannot be read, is damaged, or is none of ours.
    """
    try:
        return _checked_run(path)
    except ReportError as error:
        # It may quote what the file holds.
        raise ReportError(printable(str(error))[:_NOTE_CHARACTERS_MAX]) from None


def _checked_run(path: Path) -> SavedRun:
    try:
        # A pipe in the folder would block the reader for ever.
        if not path.is_file():
            msg = f"report {path} is not a file"
            raise ReportError(msg)
        size_bytes = path.stat().st_size
        if size_bytes > REPORT_BYTES_MAX:
            msg = f"report {path} has {size_bytes:,} bytes, over {REPORT_BYTES_MAX:,}"
            raise ReportError(msg)
        report = load_report(path)
        data = printable(report.data)
        if report.run is None:
            msg = f"report {path} was not written by lakegauge"
            raise ReportError(msg)
        cases = tuple(CaseView.of(record) for record in data["benchmarks"])
        started_at = datetime.fromisoformat(data["datetime"])
    except OSError as error:
        msg = f"report {path} cannot be read: {error.strerror}"
        raise ReportError(msg) from None
    except RecursionError:
        msg = f"report {path} is nested too deeply"
        raise ReportError(msg) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        msg = f"report {path} is damaged: {place}: {first['msg']}"
        raise ReportError(msg) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"report {path} is damaged: {error!r:.100}"
        raise ReportError(msg) from None
    report = SavedReport(path, _slim(data), RunBlock.model_validate(data[BLOCK]))
    assert report.run is not None  # noqa: S101  # validated in the line above
    return SavedRun(
        label=printable(_label(report)),
        report=report,
        run=report.run,
        cases=cases,
        started_at=_aware(started_at),
    )


def find_run(wanted: str, folder: Path) -> SavedRun:
    """Read the report of that path, number or name.

    Raises:
        ReportError: If there is none, more than one, or it cannot be read.
    """
    try:
        if Path(wanted).is_file():
            return read_run(Path(wanted).absolute())
    except OSError:
        pass  # Longer than a path may be, say: then it is no path.
    number = f"{wanted.zfill(4)}_" if wanted.isdigit() else wanted
    paths = _report_paths(folder)
    found = [path for path in paths if path.name.startswith(number)]
    if len(found) == 1:
        return read_run(found[0])
    if found:
        listed = ", ".join(str(path) for path in found[:5])
        msg = f"more than one report matches {wanted!r}: {listed}. Name one by its path"
    else:
        names = ", ".join(path.name for path in paths[:5]) or "none yet"
        msg = f"no saved report matches {wanted!r} in {folder} (newest: {names})"
    raise ReportError(msg)


class ReportFolder:
    """The readable reports of a folder; a file is read again only once it changed.

    Args:
        path: The folder of reports; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._read: dict[Path, tuple[tuple[int, int, int], SavedRun | str]] = {}

    def listing(self) -> Listing:
        """Look at the folder now. Reads files: never call it on an event loop."""
        with self._lock:
            paths = _report_paths(self.path)
            known, self._read = self._read, {}
            for path in paths[:REPORTS_MAX]:
                try:
                    stat = path.stat()
                except OSError:
                    continue  # The run ended, or was saved, since we looked.
                stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                old = known.get(path)
                if old is not None and old[0] == stamp:
                    self._read[path] = old
                else:
                    self._read[path] = (stamp, _run_or_note(path))
            results = [result for _, result in self._read.values()]
        runs = [result for result in results if isinstance(result, SavedRun)]
        notes = [result for result in results if isinstance(result, str)]
        if (older_count := len(paths) - REPORTS_MAX) > 0:
            notes.append(f"{older_count} older reports are not listed")
        runs.sort(key=lambda run: run.started_at, reverse=True)
        return Listing(runs=tuple(self._unique(runs)), notes=tuple(notes))

    def _unique(self, runs: list[SavedRun]) -> list[SavedRun]:
        """Label by path where two machines, or two copies, share a number."""
        taken = Counter(run.label for run in runs)
        return [
            replace(run, label=self.shown_path(run).removesuffix(".json"))
            if taken[run.label] > 1
            else run
            for run in runs
        ]

    def shown_path(self, run: SavedRun) -> str:
        """Return the report's path below this folder."""
        return str(printable(str(run.report.path.relative_to(self.path))))


def state_of(run: SavedRun) -> State:
    """Return "complete", "running" or "interrupted".

    A journal that stays on disk belongs to a run that goes on or to one that was
    killed; its name holds the process id, which another process may have by now.
    """
    if run.run.complete:
        return "complete"
    pid = _PID.search(run.report.path.stem)
    try:
        created_s = psutil.Process(int(pid.group(1))).create_time() if pid else None
    except (psutil.Error, OverflowError, ValueError):
        created_s = None
    is_alive = created_s is not None and created_s <= run.started_at.timestamp() + 1
    return "running" if is_alive else "interrupted"


def _report_paths(folder: Path) -> list[Path]:
    """Return all report files, newest first."""
    found = []
    for path in folder.glob("*/*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue
    return [path for _, path in sorted(found, reverse=True)]


def _label(report: SavedReport) -> str:
    # The name of a journal is a time, which begins like a number.
    is_journal = report.path.parent.name == UNFINISHED
    return report.path.stem if is_journal else report.label


def _run_or_note(path: Path) -> SavedRun | str:
    try:
        return read_run(path)
    except ReportError as error:
        return str(error)


def _aware(moment: datetime) -> datetime:
    """Take a time without a zone for UTC, which is what pytest-benchmark writes."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _slim(data: dict[str, Any]) -> dict[str, Any]:
    """Let go of raw values and histograms, the bulk of a report."""
    for record in data["benchmarks"]:
        record["stats"].pop("data", None)
        record["extra_info"][BLOCK].pop("histogram", None)
    return data
