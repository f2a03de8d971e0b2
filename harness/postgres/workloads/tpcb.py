"""pgbench's two built-in workloads: its TPC-B-like transaction, and its lookup."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, WorkNotDoneError
from harness.postgres.keys import Keys, Uniform, key_source
from harness.postgres.pgbench_tables import ACCOUNTS, BRANCHES, HISTORY, TELLERS
from harness.postgres.workloads.counters import scans_of, whole_number
from harness.postgres.workloads.tally import Claim, Tally
from harness.postgres.workloads.workload import Worker, Workload

if TYPE_CHECKING:
    import random

    from harness.postgres.pgbench_tables import PgbenchTables
    from harness.postgres.pool import Pool
    from harness.postgres.workloads.session import Session
    from harness.postgres.workloads.workload import Source

DELTA_MAX = 5_000
ROWS = "rows committed to pgbench_history"
SCANS = "scans of pgbench_accounts counted by the server"
# What each balance must equal, as the sum of what the history says was moved.
BALANCES = {
    "sum(abalance)": f"SELECT sum(abalance) FROM {ACCOUNTS}",  # noqa: S608
    "sum(tbalance)": f"SELECT sum(tbalance) FROM {TELLERS}",  # noqa: S608
    "sum(bbalance)": f"SELECT sum(bbalance) FROM {BRANCHES}",  # noqa: S608
    "sum(delta)": f"SELECT sum(delta) FROM {HISTORY}",  # noqa: S608
}

SELECT_BALANCE = f"SELECT abalance FROM {ACCOUNTS} WHERE aid = %s"  # noqa: S608
# Each changes one row, and takes the amount and the key.
UPDATE_ACCOUNT = f"UPDATE {ACCOUNTS} SET abalance = abalance + %s WHERE aid = %s"  # noqa: S608
UPDATE_TELLER = f"UPDATE {TELLERS} SET tbalance = tbalance + %s WHERE tid = %s"  # noqa: S608
UPDATE_BRANCH = f"UPDATE {BRANCHES} SET bbalance = bbalance + %s WHERE bid = %s"  # noqa: S608
INSERT_HISTORY = (
    f"INSERT INTO {HISTORY} (tid, bid, aid, delta, mtime) "  # noqa: S608
    "VALUES (%s, %s, %s, %s, CURRENT_TIMESTAMP)"
)


class AccountLookup(Workload):
    """Read one account's balance by its primary key: `pgbench --select-only`.

    Args:
        source: Where connections come from.
        tables: pgbench's tables.
        keys: Which accounts, `aid` - 1; default each as likely as any other.
        direct: Talk to libpq through psycopg.pq instead of a cursor.
    """

    def __init__(
        self,
        source: Source | Pool,
        tables: PgbenchTables,
        *,
        keys: Keys | None = None,
        direct: bool = False,
    ) -> None:
        super().__init__(source, direct=direct)
        self.tables = tables
        self.keys = keys or Uniform(count=tables.accounts)
        if self.keys.count > tables.accounts:
            msg = f"keys.count must be <= {tables.accounts}, got {self.keys.count}"
            raise ConfigError(msg)

    def begin(self, worker: Worker, source: random.Random) -> None:
        """Seed the keys of one worker."""
        super().begin(worker, source)
        worker.key = key_source(
            self.keys, seed=source.getrandbits(64), worker=worker.index
        )

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one lookup."""
        aid = 1 + worker.key()
        row = session.execute(SELECT_BALANCE, (aid,)).fetchone()
        if row is None:
            msg = f"{ACCOUNTS} has no account {aid}"
            raise WorkNotDoneError(msg)
        worker.tally.reads += 1

    def claims(self, tally: Tally) -> dict[str, Claim]:
        """Return what the server must show."""
        return {SCANS: Claim(expected=tally.reads)}

    def statistics(self, session: Session) -> dict[str, int]:
        """Return how often the accounts were scanned."""
        return {SCANS: scans_of(session, ACCOUNTS)}


class TpcB(AccountLookup):
    """pgbench's TPC-B-like transaction: five statements between BEGIN and END.

    After any number of them, whoever ran them, the balances of accounts, tellers
    and branches each sum up to what the history says was moved.

    Args:
        source: Where connections come from.
        tables: pgbench's tables.
        pipelined: Send all seven statements together, then take the answers.
        options: See `AccountLookup`.
    """

    def __init__(
        self,
        source: Source | Pool,
        tables: PgbenchTables,
        *,
        pipelined: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(source, tables, **options)
        self.pipelined = pipelined

    def operate(self, session: Session, worker: Worker) -> None:
        """Run one transaction."""
        assert worker.random is not None  # noqa: S101 - `begin` has set it
        draw = worker.random.random
        aid = 1 + worker.key()
        tid = 1 + int(draw() * self.tables.tellers)
        bid = 1 + int(draw() * self.tables.scale)
        delta = int(draw() * (2 * DELTA_MAX + 1)) - DELTA_MAX
        statements = (
            (UPDATE_ACCOUNT, (delta, aid)),
            (SELECT_BALANCE, (aid,)),
            (UPDATE_TELLER, (delta, tid)),
            (UPDATE_BRANCH, (delta, bid)),
            (INSERT_HISTORY, (tid, bid, aid, delta)),
        )
        run = self._pipeline if self.pipelined else self._one_by_one
        counts = run(session, statements)
        if counts != [1, 1, 1, 1, 1]:
            msg = (
                f"a transaction of account {aid} touched {counts} rows, expected 1 each"
            )
            raise WorkNotDoneError(msg)
        worker.tally.writes += 1
        worker.tally.amount += delta

    def _one_by_one(self, session: Session, statements: Any) -> list[int]:
        execute = session.execute
        execute("BEGIN")
        try:
            counts = [execute(query, values).rowcount for query, values in statements]
            execute("COMMIT")
        except BaseException:
            # The error to show is the first one, even if the connection is gone.
            with suppress(Exception):
                execute("ROLLBACK")
            raise
        return counts

    def _pipeline(self, session: Session, statements: Any) -> list[int]:
        connection = session.connection
        prepare = connection.prepare_threshold is not None
        with connection.pipeline(), connection.transaction():
            cursors = [
                connection.execute(query, values, prepare=prepare, binary=True)
                for query, values in statements
            ]
        return [cursor.rowcount for cursor in cursors]

    def claims(self, tally: Tally) -> dict[str, Claim]:
        """Return what the server must show: rows, and the same sum four times."""
        moved = Claim(expected=tally.amount, most=DELTA_MAX, least=-DELTA_MAX)
        return {ROWS: Claim(expected=tally.writes), **dict.fromkeys(BALANCES, moved)}

    def contents(self, session: Session) -> dict[str, int]:
        """Return the history's rows and the four sums."""
        counted = whole_number(session, f"SELECT count(*) FROM {HISTORY}")  # noqa: S608
        sums = {name: whole_number(session, text) for name, text in BALANCES.items()}
        return {ROWS: counted, **sums}

    def statistics(self, session: Session) -> dict[str, int]:
        """Return nothing: the tables tell it all."""
        del session
        return {}

    def broken_invariants(self, session: Session) -> list[str]:
        """Return the balances that differ from what the history says was moved."""
        sums = {name: whole_number(session, text) for name, text in BALANCES.items()}
        if len(set(sums.values())) == 1:
            return []
        shown = ", ".join(f"{name} = {value}" for name, value in sums.items())
        return [f"the balances do not agree: {shown}"]
