"""Reports named on a command line, read with distrust: each may be anything."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ReportError
from harness.reports.machine import CHECKED_MACHINE_INFO, stable_machine_info
from harness.reports.printable import printable
from harness.reports.store import UNFINISHED, load_report
from harness.reports.verdict.metrics import CaseRun, case_run_of
from harness.reports.verdict.model import RunSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.record import PairBlock, RunBlock
    from harness.reports.store import SavedReport

# A full run writes 0.2 MB, with raw values 10 MB. Parsed JSON needs about ten times
# its size.
REPORT_BYTES_MAX = 64_000_000
_MESSAGE_CHARACTERS_MAX = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One process run, with one number per case and metric.

    Attributes:
        about: Where it came from.
        machine_info: The stable facts of its machine.
        block: Our block; None in a report that pytest-benchmark wrote alone.
        cases: Its cases by node id.
        failed: Cases that did not pass, with their outcome.
        repeated: Node ids that it recorded more than once.
        digest: Equal for two copies of one run, whatever their names; "" if it was
            not asked for.
    """

    about: RunSummary
    machine_info: dict[str, Any]
    block: RunBlock | None
    cases: dict[str, CaseRun]
    failed: dict[str, str] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    digest: str = ""

    @property
    def smoke(self) -> bool | None:
        """Whether smoke values were used; None if it does not say."""
        return self.block.smoke if self.block else None

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself."""
        return self.block is None or self.block.complete

    @property
    def pair(self) -> PairBlock | None:
        """Its place in an A/B experiment, if any."""
        return self.block.pair if self.block else None


def read_report(path: Path) -> SavedReport:
    """Read one report whose every text is safe to print; parameters are left out.

    Raises:
        ReportError: If it cannot be read or is damaged.
    """
    try:
        report = _checked_report(path)
        records = [
            {key: value for key, value in record.items() if key != "params"}
            for record in report.data["benchmarks"]
        ]
        data = {**report.data, "benchmarks": records}
        if not report.is_printable:
            data = printable(data)
        return replace(report, data=data, is_printable=True)
    except RecursionError:
        msg = f"report {path} is nested too deeply"
        raise ReportError(msg) from None
    except ReportError as error:
        # It may quote what the file holds.
        raise ReportError(printable(str(error))[:_MESSAGE_CHARACTERS_MAX]) from None


def _checked_report(path: Path) -> SavedReport:
    try:
        # A pipe in the folder would block the reader for ever.
        if not path.is_file():
            msg = f"report {path} is not a file"
            raise ReportError(msg)
        size_bytes = path.stat().st_size
    except OSError as error:
        msg = f"report {path} cannot be read: {error.strerror}"
        raise ReportError(msg) from None
    if size_bytes > REPORT_BYTES_MAX:
        msg = (
            f"report {path} has {size_bytes:,} bytes, over {REPORT_BYTES_MAX:,}: too "
            "large to be read safely"
        )
        raise ReportError(msg)
    return load_report(path)


def read_run(path: Path) -> Run:
    """Read one report and reduce it to what is compared.

    Raises:
        ReportError: If it cannot be read or is damaged.
    """
    return run_of(read_report(path))


def run_of(report: SavedReport, *, identify: bool = True) -> Run:
    """Reduce a report that `read_report` gave to what is compared.

    Args:
        report: The report.
        identify: Whether to reckon its digest, which costs as much as the rest.

    Raises:
        ReportError: If a part that is needed is damaged.
    """
    path = report.path
    try:
        found = [case_run_of(record) for record in report.data["benchmarks"]]
        started_at = _moment(report.data.get("datetime"))
        info = report.data["machine_info"]
        if "cpu_brand" not in info:
            info = stable_machine_info(info)
        commit = report.data.get("commit_info") or {}
        block = report.run
        environment = block.environment if block else None
        about = RunSummary(
            label=printable(_label(report)),
            path=path,
            started_at=started_at,
            commit=printable(str(commit.get("id") or "")),
            dirty=bool(commit.get("dirty")),
            environment_doubts=tuple(environment.doubts) if environment else (),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"report {path} is damaged: {error!r:.100}"
        raise ReportError(msg) from None
    counts = Counter(case.fullname for case in found)
    return Run(
        about=about,
        machine_info=info,
        block=block,
        cases={case.fullname: case for case in found},
        failed=printable(dict(block.failed)) if block else {},
        repeated=frozenset(name for name, count in counts.items() if count > 1),
        digest=_digest(report) if identify else "",
    )


def find_reports(wanted: Sequence[str], folder: Path) -> list[Path]:
    """Return the reports that the words name, in their order.

    A word is a path, a folder of reports, a number or the beginning of a file name,
    or a range of numbers: `0003..0014`.

    Raises:
        ReportError: If a word names none, or a number names more than one.
    """
    known = _report_paths(folder)
    found: list[Path] = []
    for word in wanted:
        found += _named(word, known=known, folder=folder)
    return found


def _named(word: str, *, known: list[Path], folder: Path) -> list[Path]:
    try:
        path = Path(word)
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                msg = f"the folder {path} holds no report"
                raise ReportError(msg)
            return [p.absolute() for p in inside]
        if path.is_file():
            return [path.absolute()]
    except (OSError, ValueError):
        pass  # Longer than a path may be, say: then it is no path.
    first, dots, last = word.partition("..")
    if dots and first.isdigit() and last.isdigit():
        inside = [p for p in known if int(first) <= _number(p) <= int(last)]
        clash = len({_number(p) for p in inside}) < len(inside)
    else:
        start = f"{word.zfill(4)}_" if word.isdigit() else word
        inside = [p for p in known if p.name.startswith(start)]
        clash = len(inside) > 1
    if clash:
        listed = ", ".join(str(p) for p in inside[:5])
        msg = f"more than one report matches {word!r}: {listed}. Name one by its path"
        raise ReportError(msg)
    if not inside:
        names = ", ".join(p.name for p in reversed(known[-5:])) or "none yet"
        msg = f"no saved report matches {word!r:.200} in {folder} (newest: {names})"
        raise ReportError(msg)
    return inside


def _number(path: Path) -> int:
    digits = path.name.partition("_")[0]
    return int(digits) if digits.isdigit() else -1


def _report_paths(folder: Path) -> list[Path]:
    """Return the numbered reports and the journals, by number."""
    return sorted(folder.glob("*/*.json"), key=lambda p: (_number(p), p.name))


def machine_reasons(first: Run, other: Run) -> list[str]:
    """Return why two runs were different experiments as a whole, if they were."""
    reasons = [
        f"{key}: {first.machine_info.get(key)!r:.80} against "
        f"{other.machine_info.get(key)!r:.80}"
        for key in CHECKED_MACHINE_INFO
        if first.machine_info.get(key) != other.machine_info.get(key)
    ]
    if (first.block is None) != (other.block is None):
        reasons.append(
            "one was not written by lakegauge, so its conditions are unknown"
        )
    elif first.smoke != other.smoke:
        words = {True: "smoke values", False: "full values"}
        reasons.append(f"{words[bool(first.smoke)]} against {words[bool(other.smoke)]}")
    counts = [run.block.environment for run in (first, other) if run.block]
    allowed = [c.affinity_count for c in counts if c and c.affinity_count]
    if len(set(allowed)) > 1:
        reasons.append(f"processors allowed: {allowed[0]} against {allowed[1]}")
    return [printable(reason) for reason in reasons]


def _label(report: SavedReport) -> str:
    # The name of a journal is a time, which begins like a number.
    is_journal = report.path.parent.name == UNFINISHED
    return report.path.stem if is_journal else report.label


def _moment(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _digest(report: SavedReport) -> str:
    """Hash the moment and the figures: two runs never agree in both."""
    figures = [
        (record["fullname"], sorted((k, repr(v)) for k, v in record["stats"].items()))
        for record in report.data["benchmarks"]
    ]
    text = json.dumps([report.data.get("datetime"), sorted(figures)])
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
