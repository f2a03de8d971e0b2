"""pgbench's own tables, in our schema, as `pgbench -i` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.postgres.seeding import OURS, SCHEMA

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

ACCOUNTS_PER_BRANCH = 100_000
TELLERS_PER_BRANCH = 10
ACCOUNTS = f"{SCHEMA}.pgbench_accounts"
BRANCHES = f"{SCHEMA}.pgbench_branches"
TELLERS = f"{SCHEMA}.pgbench_tellers"
HISTORY = f"{SCHEMA}.pgbench_history"
TABLES = (ACCOUNTS, BRANCHES, TELLERS, HISTORY)

CREATE = f"""
    CREATE TABLE {HISTORY} (
        tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)
    );
    CREATE TABLE {TELLERS} (
        tid int NOT NULL, bid int, tbalance int, filler char(84)
    ) WITH (fillfactor = 100);
    CREATE TABLE {ACCOUNTS} (
        aid int NOT NULL, bid int, abalance int, filler char(84)
    ) WITH (fillfactor = 100);
    CREATE TABLE {BRANCHES} (
        bid int NOT NULL, bbalance int, filler char(88)
    ) WITH (fillfactor = 100);
"""
FILL = f"""
    INSERT INTO {BRANCHES} (bid, bbalance)
        SELECT bid, 0 FROM generate_series(1, %(scale)s::int) AS bid;
    INSERT INTO {TELLERS} (tid, bid, tbalance)
        SELECT tid, (tid - 1) / {TELLERS_PER_BRANCH} + 1, 0
        FROM generate_series(1, %(scale)s::int * {TELLERS_PER_BRANCH}) AS tid;
    INSERT INTO {ACCOUNTS} (aid, bid, abalance, filler)
        SELECT aid, (aid - 1) / {ACCOUNTS_PER_BRANCH} + 1, 0, ''
        FROM generate_series(1, %(scale)s::int * {ACCOUNTS_PER_BRANCH}) AS aid;
"""  # noqa: S608 - constants
INDEX = f"""
    ALTER TABLE {BRANCHES} ADD PRIMARY KEY (bid);
    ALTER TABLE {TELLERS} ADD PRIMARY KEY (tid);
    ALTER TABLE {ACCOUNTS} ADD PRIMARY KEY (aid);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PgbenchTables:
    """pgbench's four tables.

    Attributes:
        scale: Branches; each has 10 tellers and 100,000 accounts.
    """

    scale: int

    @property
    def accounts(self) -> int:
        """How many accounts there are; they start at 1."""
        return self.scale * ACCOUNTS_PER_BRANCH

    @property
    def tellers(self) -> int:
        """How many tellers there are; they start at 1."""
        return self.scale * TELLERS_PER_BRANCH


def seed_pgbench(connection: Connection, *, scale: int) -> PgbenchTables:
    """Make sure pgbench's tables exist at this scale, and return them.

    They live in the schema `lakegauge`, so that a user's own stay as they are;
    pgbench finds them there by its search path. Tables of the same scale are used
    again: what earlier loads did to them keeps their sums in balance.

    Args:
        connection: In autocommit mode, without a statement timeout.
        scale: How many branches.

    Raises:
        ConfigError: *scale* is below 1, or tables of these names are not ours.
    """
    if scale < 1:
        msg = f"scale must be >= 1, got {scale}"
        raise ConfigError(msg)
    signature = f"{OURS}pgbench 1: scale {scale}"
    with connection.transaction():
        # Runs that start together on one server take turns.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        comments = [_comment(connection, table) for table in TABLES]
        for table, comment in zip(TABLES, comments, strict=True):
            if comment is not None and not comment.startswith(OURS):
                msg = f"{table} exists and was not made by lakegauge: it is left alone"
                raise ConfigError(msg)
        if any(comment != signature for comment in comments):
            connection.execute(f"DROP TABLE IF EXISTS {', '.join(TABLES)}")
            connection.execute(CREATE)
            for command in FILL.strip().split(";")[:-1]:
                connection.execute(command, {"scale": scale})
            connection.execute(INDEX)
            for table in TABLES:
                connection.execute(f"COMMENT ON TABLE {table} IS '{signature}'")
    for table in TABLES:
        connection.execute(f"VACUUM (ANALYZE) {table}")
    return PgbenchTables(scale=scale)


def _comment(connection: Connection, table: str) -> str | None:
    """Return the comment of a table, "" if it has none, None if there is no table."""
    row = connection.execute(
        "SELECT coalesce(obj_description(to_regclass(%s), 'pg_class'), ''), "
        "to_regclass(%s) IS NOT NULL",
        (table, table),
    ).fetchone()
    return row[0] if row is not None and row[1] else None
