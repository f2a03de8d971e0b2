"""A table in which the workers of other processes sign for what they have done.

Through the server, because it is the one place that every worker reaches, in
whatever process or on whatever machine.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.errors import TargetError
from harness.postgres.seeding import SCHEMA
from harness.postgres.workloads.tally import TALLY_FIELDS, Tally

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

TABLE = f"{SCHEMA}.signatures"
COLUMNS = ", ".join(f"{name} bigint NOT NULL" for name in TALLY_FIELDS)
SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in TALLY_FIELDS)


def prepare_table(connection: Connection) -> None:
    """Make sure that the table is there, if the role may make it.

    Workers of this process sign in memory, and need none.
    """
    import psycopg

    if _may(connection, "INSERT") is not None:
        return
    with (
        suppress(psycopg.errors.InsufficientPrivilege),
        connection.transaction(),
    ):
        # Two runs that create it at the same moment would collide.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} "
            f"(run_id text NOT NULL, worker integer NOT NULL, {COLUMNS})"
        )


def sign(connection: Connection, *, run_id: str, worker: int, tally: Tally) -> None:
    """Write down what one worker has done, once, at its end.

    Raises:
        TargetError: The role may not.
    """
    if not _may(connection, "INSERT"):
        msg = (
            f"workers of other processes sign for their work in {TABLE}, where role "
            f"{connection.info.user!r} cannot write: GRANT CREATE ON DATABASE "
            f"{connection.info.dbname} to it, or use processes=1"
        )
        raise TargetError(msg)
    values = [getattr(tally, name) for name in TALLY_FIELDS]
    connection.execute(
        f"INSERT INTO {TABLE} (run_id, worker, {', '.join(TALLY_FIELDS)}) "  # noqa: S608 - constants
        f"VALUES (%s, %s{', %s' * len(values)})",
        (run_id, worker, *values),
    )


def signed(connection: Connection, *, run_id: str) -> Tally:
    """Return what all workers of a run have signed for."""
    if not _may(connection, "SELECT"):
        return Tally()
    row = connection.execute(
        f"SELECT {SUMS} FROM {TABLE} WHERE run_id = %s",  # noqa: S608 - constants
        (run_id,),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Tally(*row)


def forget(connection: Connection, *, run_id: str) -> None:
    """Remove the signatures of a run that has been confirmed."""
    if _may(connection, "DELETE"):
        connection.execute(f"DELETE FROM {TABLE} WHERE run_id = %s", (run_id,))  # noqa: S608


def _may(connection: Connection, privilege: str) -> bool | None:
    """Tell whether the role may do this to the table; None if there is no table."""
    # A name in a schema that the role may not use is an error, not NULL.
    row = connection.execute(
        "SELECT CASE WHEN has_schema_privilege(n.oid, 'USAGE') "
        "THEN has_table_privilege(c.oid, %s) ELSE false END "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (privilege, *TABLE.split(".")),
    ).fetchone()
    return None if row is None else bool(row[0])
