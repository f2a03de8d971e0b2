"""YCSB's table, and who may insert which key into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.postgres.seeding import OURS, SCHEMA

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

FIELDS = 10
FIELD_LENGTH = 100
USERTABLE = f"{SCHEMA}.usertable"
# Numbers of new records come from the server, so that no two workers, in whatever
# process or on whatever machine, insert the same one.
SEQUENCE = f"{SCHEMA}.usertable_record"
FIELD_NAMES = tuple(f"field{index}" for index in range(FIELDS))


@dataclass(frozen=True, kw_only=True, slots=True)
class Usertable:
    """YCSB's table: a text key and ten text fields.

    Record number i, counted from 0, has the key `user` and i in twelve digits, so
    that the order of keys is that of numbers. `revision` is ours: it counts the
    committed updates of a record.

    Attributes:
        records: Records it was seeded with.
        field_length: Letters of one field.
    """

    records: int
    field_length: int


def seed_usertable(
    connection: Connection, *, records: int, field_length: int = FIELD_LENGTH
) -> Usertable:
    """Make a table with exactly these records, and return it.

    An existing one is emptied first: inserts of an earlier load would be in the way.

    Args:
        connection: In autocommit mode, without a statement timeout.
        records: How many.
        field_length: Letters of one of the ten fields.

    Raises:
        ConfigError: A size is below 1, or a table of this name is not ours.
    """
    if records < 1 or field_length < 1:
        msg = f"sizes must be >= 1, got {records=} and {field_length=}"
        raise ConfigError(msg)
    fields = ", ".join(f"{name} text NOT NULL" for name in FIELD_NAMES)
    # Hashes, so that it neither compresses nor repeats; all at the server.
    text = (
        f"left(repeat(md5(i::text || ':' || n), {field_length // 32 + 1}), "
        f"{field_length})"
    )
    values = ", ".join(text.replace("n)", f"{n})") for n in range(FIELDS))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (SCHEMA,))
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        found = connection.execute(
            "SELECT obj_description(to_regclass(%s), 'pg_class') "
            "WHERE to_regclass(%s) IS NOT NULL",
            (USERTABLE, USERTABLE),
        ).fetchone()
        if found is not None and not (found[0] or "").startswith(OURS):
            msg = f"{USERTABLE} exists and was not made by lakegauge: it is left alone"
            raise ConfigError(msg)
        connection.execute(f"DROP TABLE IF EXISTS {USERTABLE}")
        connection.execute(f"DROP SEQUENCE IF EXISTS {SEQUENCE}")
        connection.execute(
            f"CREATE TABLE {USERTABLE} (ycsb_key text NOT NULL, {fields}, "
            "revision integer NOT NULL DEFAULT 0)"
        )
        connection.execute(
            f"INSERT INTO {USERTABLE} SELECT 'user' || lpad(i::text, 12, '0'), "  # noqa: S608 - constants
            f"{values} FROM generate_series(0, %s::int - 1) AS i",
            (records,),
        )
        connection.execute(f"ALTER TABLE {USERTABLE} ADD PRIMARY KEY (ycsb_key)")
        connection.execute(
            f"CREATE SEQUENCE {SEQUENCE} MINVALUE 0 START {int(records)}"
        )
        connection.execute(f"COMMENT ON TABLE {USERTABLE} IS '{OURS}usertable 1'")
    connection.execute(f"VACUUM (ANALYZE) {USERTABLE}")
    return Usertable(records=records, field_length=field_length)
