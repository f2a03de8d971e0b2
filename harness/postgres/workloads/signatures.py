"""A table in which the workers of other processes sign for what they have done.

Through the server, because it is the one place that every worker reaches, in
whatever process or on whatever machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.postgres.seeding import SCHEMA
from harness.postgres.workloads.tally import TALLY_FIELDS, Tally

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

TABLE = f"{SCHEMA}.signatures"
COLUMNS = ", ".join(f"{name} bigint NOT NULL" for name in TALLY_FIELDS)
SUMS = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in TALLY_FIELDS)


def prepare_table(connection: Connection) -> None:
    """Make sure that the table is there."""
    with connection.transaction():
        # Two runs that create it at the same moment would collide.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} "
            f"(run_id text NOT NULL, worker integer NOT NULL, {COLUMNS})"
        )


def sign(connection: Connection, *, run_id: str, worker: int, tally: Tally) -> None:
    """Write down what one worker has done, once, at its end."""
    values = [getattr(tally, name) for name in TALLY_FIELDS]
    connection.execute(
        f"INSERT INTO {TABLE} (run_id, worker, {', '.join(TALLY_FIELDS)}) "  # noqa: S608 - constants
        f"VALUES (%s, %s{', %s' * len(values)})",
        (run_id, worker, *values),
    )


def signed(connection: Connection, *, run_id: str) -> Tally:
    """Return what all workers of a run have signed for."""
    if connection.execute("SELECT to_regclass(%s)", (TABLE,)).fetchone() == (None,):
        return Tally()
    row = connection.execute(
        f"SELECT {SUMS} FROM {TABLE} WHERE run_id = %s",  # noqa: S608 - constants
        (run_id,),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Tally(*row)


def forget(connection: Connection, *, run_id: str) -> None:
    """Remove the signatures of a run that has been confirmed."""
    connection.execute(f"DELETE FROM {TABLE} WHERE run_id = %s", (run_id,))  # noqa: S608
