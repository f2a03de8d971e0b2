"""YCSB's core workloads A to F."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError, WorkNotDoneError
from harness.postgres.keys import Keys, Latest, Zipf, key_source
from harness.postgres.usertable import FIELD_NAMES, SEQUENCE, USERTABLE
from harness.postgres.workloads.counters import (
    PLANNER_PROBES,
    scans_of,
    whole_number,
)
from harness.postgres.workloads.tally import Claim, Tally
from harness.postgres.workloads.workload import Worker, Workload

if TYPE_CHECKING:
    import random

    from harness.postgres.pool import Pool
    from harness.postgres.usertable import Usertable
    from harness.postgres.workloads.session import Session
    from harness.postgres.workloads.workload import Source

SCAN_ROWS_MAX = 100
SCANS = "scans of usertable counted by the server"
UPDATES = "updates committed to usertable"
INSERTS = "records inserted into usertable"

# Table and column names are constants of ours.
ALL_FIELDS = ", ".join(FIELD_NAMES)
READ = f"SELECT ycsb_key, {ALL_FIELDS} FROM {USERTABLE} WHERE ycsb_key = %s"  # noqa: S608
READ_TO_MODIFY = f"SELECT ycsb_key, {ALL_FIELDS}, revision FROM {USERTABLE} WHERE ycsb_key = %s FOR UPDATE"  # noqa: E501, S608
SCAN = f"SELECT ycsb_key, {ALL_FIELDS} FROM {USERTABLE} WHERE ycsb_key >= %s ORDER BY ycsb_key LIMIT %s"  # noqa: E501, S608
INSERT = f"INSERT INTO {USERTABLE} (ycsb_key, {ALL_FIELDS}) VALUES ('user' || lpad(nextval('{SEQUENCE}')::text, 12, '0'){', %s' * len(FIELD_NAMES)}) RETURNING ycsb_key"  # noqa: E501, S608
UPDATES_BY_FIELD = tuple(
    f"UPDATE {USERTABLE} SET {name} = %s, revision = revision + 1 WHERE ycsb_key = %s"  # noqa: S608
    for name in FIELD_NAMES
)
# The revision comes from the client: two writers that had read the same one would
# leave a gap in the sum.
MODIFY_BY_FIELD = tuple(
    f"UPDATE {USERTABLE} SET {name} = %s, revision = %s WHERE ycsb_key = %s"  # noqa: S608
    for name in FIELD_NAMES
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Shares of the five operations; together 1.

    Attributes:
        read: One record by its key.
        update: One field of a record.
        insert: A new record.
        scan: Up to 100 records in the order of keys.
        modify: One record read and, in the same transaction, updated.
        latest: Newest records are the most popular; else popular ones lie scattered.
    """

    read: float = 0.0
    update: float = 0.0
    insert: float = 0.0
    scan: float = 0.0
    modify: float = 0.0
    latest: bool = False

    def __post_init__(self) -> None:
        shares = (self.read, self.update, self.insert, self.scan, self.modify)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:  # noqa: PLR2004 - rounding
            msg = f"the shares of a mix must be 0 or more and add up to 1, got {self}"
            raise ConfigError(msg)


YCSB_MIXES = {
    "A": Mix(read=0.5, update=0.5),
    "B": Mix(read=0.95, update=0.05),
    "C": Mix(read=1.0),
    "D": Mix(read=0.95, insert=0.05, latest=True),
    "E": Mix(scan=0.95, insert=0.05),
    "F": Mix(read=0.5, modify=0.5),
}


class Ycsb(Workload):
    """One of YCSB's core workloads.

    Inserted records are read again only by the worker that knows them committed.

    Args:
        source: Where connections come from.
        table: YCSB's table.
        mix: "A" to "F", or shares of one's own.
        keys: Which of the seeded records; default as YCSB has it.
        direct: Talk to libpq through psycopg.pq instead of a cursor.
    """

    def __init__(
        self,
        source: Source | Pool,
        table: Usertable,
        mix: str | Mix,
        *,
        keys: Keys | None = None,
        direct: bool = False,
    ) -> None:
        super().__init__(source, direct=direct)
        if isinstance(mix, str):
            if mix not in YCSB_MIXES:
                msg = f"mix must be one of {', '.join(YCSB_MIXES)}, got {mix!r}"
                raise ConfigError(msg)
            mix = YCSB_MIXES[mix]
        self.table = table
        self.mix = mix
        usual = (
            Latest(count=table.records)
            if mix.latest
            else Zipf(count=table.records, scrambled=True)
        )
        self.keys: Keys = keys or usual
        if self.keys.count > table.records:
            msg = f"keys.count must be <= {table.records}, got {self.keys.count}"
            raise ConfigError(msg)

    def begin(self, worker: Worker, source: random.Random) -> None:
        """Seed the keys of one worker."""
        super().begin(worker, source)
        worker.key = key_source(
            self.keys, seed=source.getrandbits(64), worker=worker.index
        )

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one of the five operations."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        mix, drawn = self.mix, worker.random.random()
        if drawn < mix.read:
            self.read(session, self._number(worker))
            worker.tally.reads += 1
        elif drawn < mix.read + mix.update:
            self.update(session, worker)
        elif drawn < mix.read + mix.update + mix.modify:
            self.modify(session, worker)
        elif drawn < mix.read + mix.update + mix.modify + mix.scan:
            self.scan(session, worker)
        else:
            self.insert(session, worker)

    def read(self, session: Session, number: int) -> None:
        """Read one record; it must be the one asked for, whole.

        Raises:
            WorkNotDoneError: It is not.
        """
        key = key_of(number)
        self._check(session.execute(READ, (key,)).fetchone(), key)

    def update(self, session: Session, worker: Worker) -> None:
        """Write one field of one record."""
        key, field, text = self._change(worker)
        count = session.execute(UPDATES_BY_FIELD[field], (text, key)).rowcount
        self._check_count(count, key)
        worker.tally.writes += 1

    def modify(self, session: Session, worker: Worker) -> None:
        """Read one record and write it back changed, in one transaction."""
        key, field, text = self._change(worker)
        execute = session.execute
        execute("BEGIN")
        try:
            row = execute(READ_TO_MODIFY, (key,)).fetchone()
            self._check(row, key)
            count = execute(MODIFY_BY_FIELD[field], (text, row[-1] + 1, key)).rowcount
            self._check_count(count, key)
            execute("COMMIT")
        except BaseException:
            with suppress(Exception):
                execute("ROLLBACK")
            raise
        worker.tally.reads += 1
        worker.tally.writes += 1

    def scan(self, session: Session, worker: Worker) -> None:
        """Read records in the order of their keys."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        number = self._number(worker)
        wanted = 1 + int(worker.random.random() * SCAN_ROWS_MAX)
        key = key_of(number)
        rows = session.execute(SCAN, (key, wanted)).fetchall()
        self._check(rows[0] if rows else None, key)
        # Behind the last seeded record there may be inserted ones, or none yet.
        least = min(wanted, self.table.records - number)
        if not least <= len(rows) <= wanted:
            msg = f"{len(rows)} records from {key!r}, expected {least} to {wanted}"
            raise WorkNotDoneError(msg)
        worker.tally.scans += 1

    def insert(self, session: Session, worker: Worker) -> None:
        """Insert one record; the server gives it its number."""
        texts = [self._text(worker) for _ in FIELD_NAMES]
        row = session.execute(INSERT, texts).fetchone()
        worker.inserted.append(int(row[0].removeprefix("user")))
        worker.tally.inserts += 1

    def claims(self, tally: Tally) -> dict[str, Claim]:
        """Return what the server must show."""
        return {
            SCANS: Claim(
                expected=tally.reads + tally.writes + tally.scans,
                most=2,
                extra=PLANNER_PROBES * tally.scans,
            ),
            UPDATES: Claim(expected=tally.writes),
            INSERTS: Claim(expected=tally.inserts),
        }

    def contents(self, session: Session) -> dict[str, int]:
        """Return the committed updates, and how many records there are."""
        updates = f"SELECT sum(revision) FROM {USERTABLE}"  # noqa: S608 - a constant
        count = f"SELECT count(*) FROM {USERTABLE}"  # noqa: S608 - a constant
        return {
            UPDATES: whole_number(session, updates),
            INSERTS: whole_number(session, count),
        }

    def statistics(self, session: Session) -> dict[str, int]:
        """Return how often the table was scanned."""
        return {SCANS: scans_of(session, USERTABLE)}

    def _number(self, worker: Worker) -> int:
        """Draw the number of a record that is there."""
        number = worker.key()
        if not self.mix.latest or not worker.inserted:
            return number
        distance = self.table.records - 1 - number
        known = len(worker.inserted)
        if distance < known:
            return worker.inserted[-1 - distance]
        return self.table.records - 1 - (distance - known)

    def _change(self, worker: Worker) -> tuple[str, int, str]:
        """Draw a key, a field and what to write there."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        field = int(worker.random.random() * len(FIELD_NAMES))
        return key_of(self._number(worker)), field, self._text(worker)

    def _text(self, worker: Worker) -> str:
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        length = self.table.field_length
        return f"{worker.random.getrandbits(4 * length):0{length}x}"

    def _check(self, row: tuple[object, ...] | None, key: str) -> None:
        if row is None or row[0] != key or len(row) <= len(FIELD_NAMES):
            msg = f"asked usertable for {key!r}, got {row}"
            raise WorkNotDoneError(msg)

    def _check_count(self, count: int, key: str) -> None:
        if count != 1:
            msg = f"updated {count} records with key {key!r}"
            raise WorkNotDoneError(msg)


def key_of(number: int) -> str:
    """Return the key of a record."""
    return f"user{number:012d}"
