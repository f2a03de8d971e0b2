"""Workloads on the seeded table: lookups, ranges, mixes, pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, WorkNotDoneError
from harness.postgres.keys import Keys, Uniform, key_source
from harness.postgres.seeding import statement
from harness.postgres.workloads.counters import (
    PLANNER_PROBES,
    scans_of,
    whole_number,
)
from harness.postgres.workloads.tally import Claim, Tally
from harness.postgres.workloads.workload import Worker, Workload

if TYPE_CHECKING:
    import random
    from typing import LiteralString

    from harness.postgres.pool import Pool
    from harness.postgres.seeding import SeededTable
    from harness.postgres.workloads.session import Session
    from harness.postgres.workloads.workload import Source

WRITE_RATIO = 0.2
AMOUNT_MAX_CENTS = 100_000
RANGE_ROWS = 100
PIPELINE_DEPTH = 16
SCANS = "table scans counted by the server"
UPDATES = "updates committed"

WHOLE_ROWS: LiteralString = (
    "SELECT user_id, id, product_id, category, amount, status, created_at, updated_at "
    "FROM {} WHERE user_id = %s"
)
# Five ways to ask for a user, each with the most rows it returns: 0 for all of
# them, None where it counts them.
FIVE: tuple[tuple[LiteralString, int | None], ...] = (
    (WHOLE_ROWS, 0),
    (WHOLE_ROWS + " LIMIT 1", 1),
    ("SELECT user_id, amount, status FROM {} WHERE user_id = %s", 0),
    ("SELECT min(user_id), count(*) FROM {} WHERE user_id = %s", None),
    ("SELECT user_id, category, amount FROM {} WHERE user_id = %s LIMIT 5", 5),
)


class TableWorkload(Workload):
    """One operation on the seeded table.

    Args:
        source: Where connections come from.
        table: What is read and written.
        keys: Which rows, `id` - 1; default each as likely as any other.
        direct: Talk to libpq through psycopg.pq instead of a cursor.
    """

    def __init__(
        self,
        source: Source | Pool,
        table: SeededTable,
        *,
        keys: Keys | None = None,
        direct: bool = False,
    ) -> None:
        super().__init__(source, direct=direct)
        self.table = table
        self.keys = keys or Uniform(count=self.key_count)
        if self.keys.count > self.key_count:
            msg = f"keys.count must be <= {self.key_count}, got {self.keys.count}"
            raise ConfigError(msg)
        self._by_id = _text(
            "SELECT id, user_id, amount, status FROM {} WHERE id = %s", table
        )
        self._by_user = _text(
            "SELECT user_id, id, amount, status FROM {} WHERE user_id = %s LIMIT 1",
            table,
        )
        self._range = _text(
            "SELECT id, user_id, amount, status FROM {} WHERE id >= %s "
            "ORDER BY id LIMIT %s",
            table,
        )
        self._five = tuple((_text(text, table), rows) for text, rows in FIVE)
        self._update = _text(
            "UPDATE {} SET amount = %s::numeric / 100, updated_at = now(), "
            "revision = revision + 1 WHERE id = %s",
            table,
        )

    @property
    def key_count(self) -> int:
        """How many keys there are to draw from."""
        return self.table.rows

    def begin(self, worker: Worker, source: random.Random) -> None:
        """Seed the keys of one worker."""
        super().begin(worker, source)
        worker.key = key_source(
            self.keys, seed=source.getrandbits(64), worker=worker.index
        )

    def read(self, session: Any, query: str, key: int) -> None:
        """Look one row up; its first column must be the key.

        Raises:
            WorkNotDoneError: No row, or another row, came back.
        """
        row = session.execute(query, (key,)).fetchone()
        if row is None or row[0] != key:
            msg = f"asked {self.table.name} for key {key}, got {row}"
            raise WorkNotDoneError(msg)

    def write(self, session: Any, key: int, amount_cents: int) -> None:
        """Update one row; in autocommit mode the answer means it is committed.

        Raises:
            WorkNotDoneError: Not exactly one row was updated.
        """
        count = session.execute(self._update, (amount_cents, key)).rowcount
        if count != 1:
            msg = f"updated {count} rows of {self.table.name} with key {key}"
            raise WorkNotDoneError(msg)

    def claims(self, tally: Tally) -> dict[str, Claim]:
        """Return what the server must show: scans, and updates in the rows."""
        scans = tally.reads + tally.writes + tally.scans
        return {
            SCANS: Claim(
                expected=scans,
                most=self.scans_per_operation,
                extra=PLANNER_PROBES * tally.scans,
            ),
            UPDATES: Claim(expected=tally.writes),
        }

    @property
    def scans_per_operation(self) -> int:
        """How often one operation scans the table."""
        return 1

    def contents(self, session: Session) -> dict[str, int]:
        """Return the committed updates of all rows since seeding."""
        query = _text("SELECT sum(revision) FROM {}", self.table)
        return {UPDATES: whole_number(session, query)}

    def statistics(self, session: Session) -> dict[str, int]:
        """Return how often the table was scanned."""
        return {SCANS: scans_of(session, self.table.identifier.as_string())}


class PrimaryKeyLookup(TableWorkload):
    """Read one row by its primary key."""

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one lookup."""
        self.read(session, self._by_id, 1 + worker.key())
        worker.tally.reads += 1


class UserLookup(TableWorkload):
    """Read one row of a user; a secondary index with many rows per key."""

    @property
    def key_count(self) -> int:
        """How many users there are."""
        return self.table.users

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one lookup."""
        self.read(session, self._by_user, worker.key())
        worker.tally.reads += 1


class FiveLookups(UserLookup):
    """Five ways to ask for a user, each as likely as any other.

    All rows; the first row; three columns of all rows; how many there are; three
    columns of five rows. As many rows must come back as there are, of that user.
    """

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one of the five."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        query, rows_max = self._five[int(worker.random.random() * len(self._five))]
        key = worker.key()
        rows = session.execute(query, (key,)).fetchall()
        table = self.table
        in_table = table.rows // table.users + (key < table.rows % table.users)
        expected = min(in_table, rows_max) if rows_max else in_table
        found = rows[0][1] if rows_max is None else len(rows)
        if found != expected or any(row[0] != key for row in rows):
            msg = f"{found} rows of {table.name} for user {key}, expected {expected}"
            raise WorkNotDoneError(msg)
        worker.tally.reads += 1


class RangeScan(TableWorkload):
    """Read consecutive rows in the order of the primary key.

    Args:
        source: Where connections come from.
        table: What is read.
        rows: Rows of one range; fewer at the end of the table.
        options: See `TableWorkload`.
    """

    def __init__(
        self,
        source: Source | Pool,
        table: SeededTable,
        *,
        rows: int = RANGE_ROWS,
        **options: Any,
    ) -> None:
        super().__init__(source, table, **options)
        self.rows = rows

    def operate(self, session: Session, worker: Worker) -> None:
        """Read one range."""
        first = 1 + worker.key()
        last = min(first + self.rows - 1, self.table.rows)
        rows = session.execute(self._range, (first, self.rows)).fetchall()
        # In order and unique, so first, last and number settle all between.
        shape = (rows[0][0], rows[-1][0], len(rows)) if rows else None
        if shape != (first, last, last - first + 1):
            msg = f"asked {self.table.name} for ids {first} to {last}, got {shape}"
            raise WorkNotDoneError(msg)
        worker.tally.scans += 1


class ReadWriteMix(TableWorkload):
    """Lookups by primary key, and updates that are each committed.

    Args:
        source: Where connections come from.
        table: What is read and written.
        write_ratio: Share of updates, 0 to 1.
        options: See `TableWorkload`.
    """

    def __init__(
        self,
        source: Source | Pool,
        table: SeededTable,
        *,
        write_ratio: float = WRITE_RATIO,
        **options: Any,
    ) -> None:
        super().__init__(source, table, **options)
        self.write_ratio = write_ratio

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one lookup or one update."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        draw = worker.random.random
        key = 1 + worker.key()
        if draw() < self.write_ratio:
            self.write(session, key, int(draw() * AMOUNT_MAX_CENTS))
            worker.tally.writes += 1
        else:
            self.read(session, self._by_id, key)
            worker.tally.reads += 1


class PipelinedLookup(TableWorkload):
    """Several lookups by primary key sent together: one operation is one pipeline.

    Args:
        source: Where connections come from.
        table: What is read.
        depth: Lookups of one pipeline.
        keys: Which rows.
    """

    def __init__(
        self,
        source: Source | Pool,
        table: SeededTable,
        *,
        depth: int = PIPELINE_DEPTH,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(source, table, keys=keys)
        self.depth = depth

    @property
    def scans_per_operation(self) -> int:
        """How often one operation scans the table."""
        return self.depth

    def operate(self, session: Session, worker: Worker) -> None:
        """Send all lookups, then take all answers."""
        keys = [1 + worker.key() for _ in range(self.depth)]
        connection = session.connection
        prepare = connection.prepare_threshold is not None
        with connection.pipeline():
            cursors = [
                connection.execute(self._by_id, (key,), prepare=prepare, binary=True)
                for key in keys
            ]
        for cursor, key in zip(cursors, keys, strict=True):
            row = cursor.fetchone()
            if row is None or row[0] != key:
                msg = f"asked {self.table.name} for key {key}, got {row}"
                raise WorkNotDoneError(msg)
        worker.tally.reads += self.depth


def _text(text: LiteralString, table: SeededTable) -> str:
    """Return *text* with the table's name, composed once and not per operation."""
    return statement(text, table).as_string()
