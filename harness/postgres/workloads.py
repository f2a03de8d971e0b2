"""Workloads on the seeded table, and the check that their work was really done."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import TargetError, WorkNotDoneError
from harness.postgres.seeding import statement

if TYPE_CHECKING:
    from typing import LiteralString

    from harness.load import LoadResult, OperationContext
    from harness.postgres.pool import Pool
    from harness.postgres.seeding import SeededTable

WRITE_RATIO = 0.2
AMOUNT_MAX_CENTS = 100_000
# A connection the pool has just closed reports its last statistics on its way out.
STATISTICS_TIMEOUT_S = 2.0
STATISTICS_POLL_S = 0.05


@dataclass(slots=True)
class Tally:
    """What the server told one worker.

    Attributes:
        reads: Lookups that returned the row asked for.
        writes: Updates that the server acknowledged as committed.
    """

    reads: int = 0
    writes: int = 0


class TableWorkload:
    """One operation on the seeded table; pass it and its `setup` to a load.

    Each operation checks a connection out and draws its key from its worker's own
    seeded source, so that no two workers walk the keys in step.

    Args:
        pool: Where the connections come from.
        table: What is read and written.
    """

    def __init__(self, pool: Pool, table: SeededTable) -> None:
        self.pool = pool
        self.table = table
        self._tallies: list[Tally] = []
        self._by_id = _text(
            "SELECT id, user_id, amount, status FROM {} WHERE id = %s", table
        )
        self._by_user = _text(
            "SELECT user_id, id, amount, status FROM {} WHERE user_id = %s LIMIT 1",
            table,
        )
        self._update = _text(
            "UPDATE {} SET amount = %s::numeric / 100, updated_at = now(), "
            "revision = revision + 1 WHERE id = %s",
            table,
        )

    def setup(self, _worker: int) -> Tally:
        """Return the tally of one worker; pass it to a load as its *setup*."""
        tally = Tally()
        self._tallies.append(tally)
        return tally

    @property
    def tally(self) -> Tally:
        """What the server told all workers so far, warm-up included."""
        return Tally(
            reads=sum(tally.reads for tally in self._tallies),
            writes=sum(tally.writes for tally in self._tallies),
        )

    def __call__(self, context: OperationContext) -> None:
        """Run one operation."""
        raise NotImplementedError

    def read(self, connection: Any, query: str, key: int) -> None:
        """Look one row up; its first column must be the key.

        Raises:
            WorkNotDoneError: No row, or another row, came back.
        """
        row = connection.execute(query, (key,)).fetchone()
        if row is None or row[0] != key:
            msg = f"asked {self.table.name} for key {key}, got {row}"
            raise WorkNotDoneError(msg)

    def write(self, connection: Any, key: int, amount_cents: int) -> None:
        """Update one row; in autocommit mode the answer means it is committed.

        Raises:
            WorkNotDoneError: Not exactly one row was updated.
        """
        count = connection.execute(self._update, (amount_cents, key)).rowcount
        if count != 1:
            msg = f"updated {count} rows of {self.table.name} with key {key}"
            raise WorkNotDoneError(msg)


class PrimaryKeyLookup(TableWorkload):
    """Read one row by its primary key, uniformly drawn."""

    def __call__(self, context: OperationContext) -> None:
        """Run one lookup."""
        key = 1 + int(context.random.random() * self.table.rows)
        with self.pool.checkout() as connection:
            context.acquired()
            self.read(connection, self._by_id, key)
        context.state.reads += 1


class UserLookup(TableWorkload):
    """Read one row of a user; a secondary index with many rows per key."""

    def __call__(self, context: OperationContext) -> None:
        """Run one lookup."""
        key = int(context.random.random() * self.table.users)
        with self.pool.checkout() as connection:
            context.acquired()
            self.read(connection, self._by_user, key)
        context.state.reads += 1


class ReadWriteMix(TableWorkload):
    """Lookups by primary key, and updates that are each committed.

    Args:
        pool: Where the connections come from.
        table: What is read and written.
        write_ratio: Share of updates, 0 to 1.
    """

    def __init__(
        self, pool: Pool, table: SeededTable, *, write_ratio: float = WRITE_RATIO
    ) -> None:
        super().__init__(pool, table)
        self.write_ratio = write_ratio

    def __call__(self, context: OperationContext) -> None:
        """Run one lookup or one update."""
        draw = context.random.random
        key = 1 + int(draw() * self.table.rows)
        is_write = draw() < self.write_ratio
        amount_cents = int(draw() * AMOUNT_MAX_CENTS)
        with self.pool.checkout() as connection:
            context.acquired()
            if is_write:
                self.write(connection, key, amount_cents)
            else:
                self.read(connection, self._by_id, key)
        if is_write:
            context.state.writes += 1
        else:
            context.state.reads += 1


class Witness:
    """The server's own count of what was done to a table, taken before a load.

    Scans come from the server's statistics, committed updates from the rows
    themselves, so neither depends on what the load generator believes.

    Args:
        workload: About to be run; its pool must be idle now and at `confirm`.
        clock: Bounds the wait for the server's statistics.
    """

    def __init__(self, workload: TableWorkload, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._workload = workload
        self._pool = workload.pool
        self._table = workload.table
        self._clock = clock
        self._tally_before = workload.tally
        # In this order, and the other way round in `confirm`: counting the
        # revisions scans the table itself.
        self._revisions_before = self._revisions()
        self._scans_before = self._scans()

    def confirm(self, result: LoadResult) -> None:
        """Check that what the load reports is what the server did.

        Completed operations must be matched exactly. Failed and unfinished ones
        may have been carried out or not, so they widen what is accepted.

        Raises:
            WorkNotDoneError: The numbers do not agree; the message has all of them.
        """
        reported = result.completed + int(result.warmup.succeeded.sum())
        unknown = (
            result.failed
            + result.unfinished
            + len(result.warmup)
            - int(result.warmup.succeeded.sum())
        )
        tally, before = self._workload.tally, self._tally_before
        reads, writes = tally.reads - before.reads, tally.writes - before.writes
        scanned = self._scanned(at_least=reads + writes)
        committed = self._revisions() - self._revisions_before
        problems = [
            f"{what}: {counted}, expected {expected}"
            + (f" to {expected + unknown}" if unknown else "")
            for what, counted, expected in (
                ("answers with the right row", reads + writes, reported),
                ("table scans counted by the server", scanned, reads + writes),
                ("updates committed", committed, writes),
            )
            if not expected <= counted <= expected + unknown
        ]
        if problems:
            msg = (
                f"the load reports {reported} completed operations on "
                f"{self._table.name}, but the work was not done as reported, or "
                f"somebody else used the table: {'; '.join(problems)}"
            )
            raise WorkNotDoneError(msg)

    def _scanned(self, *, at_least: int) -> int:
        """Return the scans since the beginning, waiting for late statistics."""
        deadline_ns = self._clock.monotonic_ns() + int(STATISTICS_TIMEOUT_S * NS_PER_S)
        while True:
            scanned = self._scans() - self._scans_before
            if scanned >= at_least or self._clock.monotonic_ns() > deadline_ns:
                return scanned
            self._clock.sleep(STATISTICS_POLL_S)

    def _scans(self) -> int:
        """Return how often the table was scanned, by index or whole, up to now."""
        with ExitStack() as stack:
            # A backend reports its statistics up to a second late, unless told to.
            # All of them are told, so all of them are borrowed at once.
            connections = [
                stack.enter_context(self._pool.checkout())
                for _ in range(max(1, self._pool.stats().idle))
            ]
            for connection in connections:
                connection.execute("SELECT pg_stat_force_next_flush()")
            row = (
                connections[0]
                .execute(
                    "SELECT seq_scan + coalesce(idx_scan, 0), "
                    "current_setting('track_counts')::boolean "
                    "FROM pg_stat_user_tables WHERE relid = %s::regclass",
                    (self._table.identifier.as_string(),),
                )
                .fetchone()
            )
        if row is None or not row[1]:
            msg = "the server keeps no statistics: set track_counts = on"
            raise TargetError(msg)
        return int(row[0])

    def _revisions(self) -> int:
        """Return the committed updates of all rows since seeding."""
        with self._pool.checkout() as connection, connection.transaction():
            # A big table may take longer than an ordinary statement is given.
            connection.execute("SET LOCAL statement_timeout = 0")
            row = connection.execute(
                statement("SELECT sum(revision) FROM {}", self._table)
            ).fetchone()
        return int(row[0])


def _text(text: LiteralString, table: SeededTable) -> str:
    """Return *text* with the table's name, composed once and not per operation."""
    return statement(text, table).as_string()
