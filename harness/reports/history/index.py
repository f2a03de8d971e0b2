"""An index over saved reports: what makes ten thousand of them load in a moment.

It is never the truth. Each entry remembers the stamp of the file it was read from; a
file that changed is read again, one that is gone is forgotten, and an index that is
damaged, or of another version, is thrown away and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.errors import ReportError
from harness.reports.machine import CHECKED_MACHINE_INFO
from harness.reports.store import UNFINISHED
from harness.reports.verdict.metrics import ERRORS, METRICS
from harness.reports.verdict.reading import Run, read_report, run_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE_NAME = ".history.sqlite3"
# Another number, and every index is made anew. 1: first.
INDEX_VERSION = 1
_COLUMNS = tuple(METRICS)
_SCHEMA = f"""
CREATE TABLE report (
    id INTEGER PRIMARY KEY, path TEXT UNIQUE, stamp TEXT, started_at REAL,
    commit_id TEXT, complete INTEGER, note TEXT
);
CREATE TABLE subject (
    id INTEGER PRIMARY KEY, fullname TEXT, kind TEXT, conditions TEXT,
    UNIQUE (fullname, kind, conditions)
);
CREATE TABLE measured (
    report INTEGER, subject INTEGER, {", ".join(f'"{c}" REAL' for c in _COLUMNS)}
);
CREATE INDEX measured_report ON measured (report);
"""
_SELECT = f"""
SELECT r.path, r.started_at, r.commit_id, r.complete, s.fullname, s.kind, s.conditions,
    {", ".join(f"m.[{c}]" for c in _COLUMNS)}
FROM measured m
JOIN report r ON r.id = m.report JOIN subject s ON s.id = m.subject
ORDER BY r.started_at, r.path
"""  # noqa: S608  # our own column names


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One case of one report.

    Attributes:
        path: The report.
        started_at: When its run started, in UTC.
        commit: Its commit, or "".
        complete: Whether the run ended by itself.
        fullname: The node id.
        kind: See `CaseVerdict.kind`.
        conditions: Equal for runs that may be compared: machine, sizes and facts.
        values: Metric -> value.
    """

    path: Path
    started_at: datetime
    commit: str
    complete: bool
    fullname: str
    kind: str
    conditions: str
    values: dict[str, float]


def measured_cases(
    folder: Path, *, say: Callable[[int, int], None] | None = None
) -> tuple[list[Measured], list[str]]:
    """Return every case of every report of a folder, oldest first.

    Args:
        folder: The folder of reports.
        say: Told how many of how many changed reports have been read.

    Returns:
        The cases, and a sentence for each report that could not be read.
    """
    with _opened(folder) as database:
        _refresh(database, folder, say or (lambda _done, _all: None))
        rows = database.execute(_SELECT).fetchall()
        noted = database.execute(
            "SELECT note FROM report WHERE note IS NOT NULL ORDER BY path"
        ).fetchall()
    moments: dict[float, datetime] = {}
    paths: dict[str, Path] = {}
    found = []
    for path, started_at, commit, complete, fullname, kind, conditions, *values in rows:
        if started_at not in moments:
            moments[started_at] = datetime.fromtimestamp(started_at, UTC)
        if path not in paths:
            paths[path] = folder / path
        found.append(
            Measured(
                path=paths[path],
                started_at=moments[started_at],
                commit=commit,
                complete=bool(complete),
                fullname=fullname,
                kind=kind,
                conditions=conditions,
                values={
                    key: value
                    for key, value in zip(_COLUMNS, values, strict=True)
                    if value is not None
                },
            )
        )
    return found, [note for (note,) in noted]


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the index; one that is no use is replaced, where it must by memory."""
    database = _usable(folder / FILE_NAME)
    try:
        yield database
    finally:
        database.close()


def _usable(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        with contextlib.suppress(sqlite3.Error):
            database = sqlite3.connect(path, timeout=30.0)
            try:
                (version,) = database.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    _create(database)
                    version = INDEX_VERSION
                if version == INDEX_VERSION:
                    # Damage is found now, not in the middle of an answer.
                    database.execute("SELECT count(*) FROM measured").fetchone()
                    database.execute("SELECT count(*) FROM report").fetchone()
                    return database
            except sqlite3.Error:
                pass
            database.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    database = sqlite3.connect(":memory:")
    _create(database)
    return database


def _create(database: sqlite3.Connection) -> None:
    database.executescript(_SCHEMA)
    database.execute(f"PRAGMA user_version = {INDEX_VERSION}")
    database.commit()


def _refresh(
    database: sqlite3.Connection, folder: Path, say: Callable[[int, int], None]
) -> None:
    """Read what changed since the index was written."""
    known = dict(database.execute("SELECT path, stamp FROM report"))
    there = dict(_stamps(folder))
    gone = [path for path in known if known[path] != there.get(path)]
    changed = [path for path, stamp in there.items() if known.get(path) != stamp]
    for path in gone:
        database.execute(
            "DELETE FROM measured WHERE report IN (SELECT id FROM report WHERE path=?)",
            (path,),
        )
        database.execute("DELETE FROM report WHERE path=?", (path,))
    subjects: dict[tuple[str, str, str], int] = {}
    for done, path in enumerate(changed):
        say(done, len(changed))
        _add(database, folder, path, there[path], subjects)
    with contextlib.suppress(sqlite3.OperationalError):
        database.commit()  # A folder that became read-only: next time anew.


def _stamps(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every report's path below the folder, and what changes when it does."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as machines:
        names = [m.name for m in machines if m.is_dir() and m.name != UNFINISHED]
    for name in sorted(names):
        with os.scandir(folder / name) as files:
            for file in files:
                if file.name.endswith(".json") and not file.name.startswith("."):
                    stat = file.stat()
                    yield (
                        f"{name}/{file.name}",
                        f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}",
                    )


def _add(
    database: sqlite3.Connection,
    folder: Path,
    path: str,
    stamp: str,
    subjects: dict[tuple[str, str, str], int],
) -> None:
    note = f"report {folder / path} does not say when it was made"
    run = None
    try:
        run = run_of(read_report(folder / path), identify=False)
    except ReportError as error:
        note = str(error)
    if run is None or run.about.started_at is None:
        database.execute(
            "INSERT INTO report (path, stamp, note) VALUES (?, ?, ?)",
            (path, stamp, note),
        )
        return
    cursor = database.execute(
        "INSERT INTO report (path, stamp, started_at, commit_id, complete) "
        "VALUES (?, ?, ?, ?, ?)",
        (
            *(path, stamp, run.about.started_at.timestamp()),
            *(run.about.commit, run.complete),
        ),
    )
    marks = ", ".join("?" for _ in range(2 + len(_COLUMNS)))
    for case in run.cases.values():
        if case.problem or case.fullname in run.repeated:
            continue
        values = dict(case.values)
        values[ERRORS] = case.failed / max(1, case.operations)
        about = (case.fullname, case.kind, conditions_of(run, case.fullname))
        if about not in subjects:
            subjects[about] = _subject(database, about)
        database.execute(
            f"INSERT INTO measured VALUES ({marks})",  # noqa: S608  # question marks
            (cursor.lastrowid, subjects[about], *map(values.get, _COLUMNS)),
        )


def _subject(database: sqlite3.Connection, about: tuple[str, str, str]) -> int:
    """Return the id of a case under its conditions; it gets one if it is new."""
    database.execute("INSERT OR IGNORE INTO subject VALUES (NULL, ?, ?, ?)", about)
    (found,) = database.execute(
        "SELECT id FROM subject WHERE fullname=? AND kind=? AND conditions=?", about
    ).fetchone()
    return int(found)


def conditions_of(run: Run, fullname: str) -> str:
    """Return a text that is equal for runs of a case that may be compared."""
    case = run.cases[fullname]
    environment = run.block.environment if run.block else None
    conditions = [
        [run.machine_info.get(key) for key in CHECKED_MACHINE_INFO],
        [run.smoke, environment.affinity_count if environment else None],
        [case.kind, case.measure, sorted(case.facts.items())],
    ]
    text = json.dumps(conditions, default=repr)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
