"""The seeded table that every workload reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, TargetError
from harness.postgres.seed_rows import COPIED, HEADER, TRAILER, USERS, SeedRows

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    import psycopg
    from psycopg import sql

SCHEMA = "lakegauge"

# Kept as the table's comment: it says that the table is ours and what is in it.
# Raise the number whenever the columns or the values change.
OURS = "lakegauge seed "
SIGNATURE = f"{OURS}1"
# pg_stat_force_next_flush, which the check of the work needs, came with 15.
VERSION_MIN = 15

COLUMNS = """
    id serial,
    user_id integer NOT NULL,
    product_id integer NOT NULL,
    category text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 0
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeededTable:
    """A table whose keys are known without asking.

    `id` runs from 1 to `rows`. Row number i, counted from 0, has
    `user_id = i % 10000` and `product_id = i % 1000`. `revision` counts the
    committed updates of a row.

    Attributes:
        name: Name of the table, in the schema `lakegauge`.
        rows: Rows it was seeded with.
    """

    name: str
    rows: int

    @property
    def users(self) -> int:
        """How many different values `user_id` has; they start at 0."""
        return min(self.rows, USERS)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted, qualified name, for `psycopg.sql`."""
        from psycopg import sql

        return sql.Identifier(SCHEMA, self.name)


def statement(text: LiteralString, table: SeededTable) -> sql.Composed:
    """Put the quoted name of the table where *text* has its braces."""
    from psycopg import sql

    return sql.SQL(text).format(table.identifier)


def seed_table(
    connection: psycopg.Connection[Any],
    *,
    name: str,
    rows: int,
    batch_size: int = 10_000,
    on_progress: Callable[[int], object] = lambda _rows: None,
) -> SeededTable:
    """Make sure the table exists with exactly these rows, and return it.

    An existing table is used again if its signature and row count match, and is
    replaced if it is one of ours with other contents. Everything happens in one
    transaction: a run that is killed leaves the table as it was.

    Args:
        connection: In autocommit mode, without a statement timeout.
        name: Name of the table.
        rows: Rows it shall have.
        batch_size: Rows sent at a time.
        on_progress: Called with the rows sent so far, after every batch.

    Raises:
        ConfigError: There is a table of that name that is not ours.
        TargetError: The role may not create the schema or the table, or the
            server is too old.
    """
    import psycopg

    table = SeededTable(name=name, rows=rows)
    version = connection.info.server_version // 10_000
    if version < VERSION_MIN:
        msg = f"Postgres {VERSION_MIN} or newer is needed, this is {version}"
        raise TargetError(msg)
    try:
        with connection.transaction():
            # Runs that start together on one server take turns.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
            reused = _is_seeded(connection, table)
            if not reused:
                _create(connection, table, batch_size=batch_size, notify=on_progress)
    except psycopg.errors.InsufficientPrivilege as error:
        reason = str(error).splitlines()[0]
        msg = (
            f"role {connection.info.user!r} cannot seed {SCHEMA}.{name}: {reason}; "
            f"GRANT CREATE ON DATABASE {connection.info.dbname} to it"
        )
        raise TargetError(msg) from None
    # Every run starts on the same footing: no dead rows, fresh statistics.
    connection.execute(statement("VACUUM (ANALYZE) {}", table))
    return table


def _is_seeded(connection: psycopg.Connection[Any], table: SeededTable) -> bool:
    """Tell whether the table is there as wanted; refuse one that is not ours."""
    found = connection.execute(
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (SCHEMA, table.name),
    ).fetchone()
    if found is None:
        return False
    comment = found[0] or ""
    if not comment.startswith(OURS):
        msg = (
            f"BENCHMARK_TABLE_NAME={table.name!r}: {SCHEMA}.{table.name} exists and "
            "was not made by lakegauge, so it is left alone; choose another name"
        )
        raise ConfigError(msg)
    if comment != _signature(table):
        return False
    counted = connection.execute(statement("SELECT count(*) FROM {}", table)).fetchone()
    return counted is not None and counted[0] == table.rows


def _create(
    connection: psycopg.Connection[Any],
    table: SeededTable,
    *,
    batch_size: int,
    notify: Callable[[int], object],
) -> None:
    from psycopg import sql

    schema = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA))
    connection.execute(schema)
    connection.execute(statement("DROP TABLE IF EXISTS {}", table))
    connection.execute(statement(f"CREATE TABLE {{}} ({COLUMNS})", table))
    # Frozen: nobody saw the table before, so no reader has to settle who may see a row.
    copy_rows = statement(
        f"COPY {{}} ({COPIED}) FROM STDIN WITH (FORMAT binary, FREEZE)", table
    )
    with connection.cursor() as cursor, cursor.copy(copy_rows) as copy:
        copy.write(HEADER)
        for sent, data in SeedRows(table.rows).batches(batch_size):
            copy.write(data)
            notify(sent)
        copy.write(TRAILER)
    # The ids were given, not drawn: whoever inserts a row gets the next one.
    connection.execute(
        "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)",
        (table.identifier.as_string(connection), table.rows),
    )
    # Built after the load: several times faster than keeping them up to date.
    connection.execute(statement("ALTER TABLE {} ADD PRIMARY KEY (id)", table))
    connection.execute(statement("CREATE INDEX ON {} (user_id)", table))
    comment = sql.SQL("COMMENT ON TABLE {} IS {}")
    connection.execute(comment.format(table.identifier, sql.Literal(_signature(table))))


def _signature(table: SeededTable) -> str:
    return f"{SIGNATURE}: {table.rows} rows"
