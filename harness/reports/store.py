"""The folder of saved reports: reading, numbering, choosing a baseline, saving."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ReportError
from harness.reports.printable import is_printable_json
from harness.reports.record import BLOCK, SCHEMA_VERSION, CaseBlock, RunBlock

if TYPE_CHECKING:
    from pathlib import Path

UNFINISHED = "unfinished"
_NUMBERED = re.compile(r"(\d{4,})_.*\.json$")


class _Stats(BaseModel):
    """What a reader relies on; one missing stops `pytest-benchmark compare`."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    min: float
    max: float
    mean: float
    stddev: float
    median: float
    iqr: float
    rounds: int
    outliers: str
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_9: float | None = None
    throughput: float | None = None
    errors: float | None = None


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    fullname: str
    name: str
    group: str | None = None
    stats: _Stats
    extra_info: dict[str, Any] | None = None


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore")

    benchmarks: list[_Record]
    machine_info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SavedReport:
    """A report as it was read.

    Attributes:
        path: Where it lies.
        data: The whole JSON document.
        run: Our block, or None in a report that plain pytest-benchmark wrote.
        is_printable: Whether every text in it is known to be safe to print.
    """

    path: Path
    data: dict[str, Any]
    run: RunBlock | None
    is_printable: bool = False

    @property
    def label(self) -> str:
        """Its number or name, for a table: "0003"."""
        numbered = _NUMBERED.match(self.path.name)
        if numbered is None or self.path.parent.name == UNFINISHED:
            return self.path.stem
        return numbered.group(1)

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Its records by node id."""
        return {record["fullname"]: record for record in self.data["benchmarks"]}


def load_report(path: Path) -> SavedReport:
    """Read and check one saved report.

    Raises:
        ReportError: If it cannot be read, is no report, or is newer than this code.
    """
    try:
        text = path.read_text(encoding="utf8")
        data = json.loads(text, parse_constant=_finite, parse_float=_finite)
        checked = _Report.model_validate(data)
        # First of all its version: a newer one may hold what this code cannot read.
        run = _run_block(path, data.get(BLOCK))
        for record in checked.benchmarks:
            block = (record.extra_info or {}).get(BLOCK)
            if block is not None:
                CaseBlock.model_validate(block)
    except OSError as error:
        msg = f"report {path} cannot be read: {error.strerror}"
        raise ReportError(msg) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its top level"
        msg = f"report {path} is not a report or is damaged: {place}: {first['msg']}"
        raise ReportError(msg) from None
    except RecursionError:
        msg = f"report {path} is nested too deeply"
        raise ReportError(msg) from None
    except ValueError as error:
        msg = f"report {path} is not JSON (cut short or damaged): {error}"
        raise ReportError(msg) from None
    return SavedReport(path, data, run, is_printable_json(text))


def _run_block(path: Path, block: Any) -> RunBlock | None:
    if block is None:
        return None
    version = block.get("schema_version") if isinstance(block, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        msg = (
            f"report {path} has schema version {version!r}; this lakegauge reads up to "
            f"{SCHEMA_VERSION}. Install a newer lakegauge to read it"
        )
        raise ReportError(msg)
    try:
        return RunBlock.model_validate(block)
    except ValidationError as error:
        msg = f"report {path}: its {BLOCK!r} block is damaged: {error.errors()[0]}"
        raise ReportError(msg) from None


def _finite(text: str) -> float:
    """Read a number; JSON has no infinity, though Python reads 1e999 as one."""
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text} is not allowed in a report"
        raise ValueError(msg)
    return value


def saved_reports(folder: Path, machine_id: str) -> list[Path]:
    """Return the numbered reports of this kind of machine, oldest first.

    Sorted by number: a sort by name would put 10000 before 9999.
    """
    found = [
        (int(numbered.group(1)), path)
        for path in (folder / machine_id).glob("*.json")
        if (numbered := _NUMBERED.match(path.name))
    ]
    return [path for _, path in sorted(found)]


def next_report_path(folder: Path, machine_id: str, name: str) -> Path:
    """Return the path of the next numbered report."""
    taken = saved_reports(folder, machine_id)
    last = _NUMBERED.match(taken[-1].name) if taken else None
    number = int(last.group(1)) + 1 if last else 1
    return folder / machine_id / f"{number:04d}_{name}.json"


def prepare_folder(folder: Path) -> None:
    """Make the folder of reports, and prove that a file can be written in it.

    Raises:
        ReportError: If not.
    """
    probe = folder / UNFINISHED / ".probe"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("x" * 4096)
        probe.unlink()
    except OSError as error:
        msg = (
            f"the folder of reports {folder} cannot be written: {error.strerror}. Make "
            "room or name another with --benchmark-storage=file://FOLDER"
        )
        raise ReportError(msg) from None


def write_report(path: Path, data: dict[str, Any]) -> None:
    """Write a report so that a reader sees the old file or the whole new one.

    Raises:
        ReportError: If it cannot be written; nothing half-written is left.
    """
    text = json.dumps(data, indent=1, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        msg = f"report {path} cannot be written: {error.strerror}"
        raise ReportError(msg) from None
