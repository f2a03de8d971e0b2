"""Proof that a table holds what it must: other readers, other engines, every row.

DuckDB computes from the rows of the feeds what must be there. deltalake reads the
table's log without a JVM, and DuckDB the files it names. Nothing of the code under
test takes part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from harness.spark.feed import Feed
    from harness.spark.progress import MicroBatch

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Checksum:
    """A fingerprint of a multiset of rows: in any order the same, each row counts.

    Attributes:
        rows_count: How many rows there are.
        hashes_sum: Sum of the rows' hashes: a row that comes twice adds twice.
        hashes_xor: Exclusive or of the rows' hashes.
    """

    rows_count: int
    hashes_sum: int
    hashes_xor: int

    def __str__(self) -> str:
        return f"{self.rows_count} rows, {self.hashes_sum:x}/{self.hashes_xor:x}"


def oracle(sql: str, **tables: pa.Table) -> pa.Table:
    """Return what DuckDB answers to *sql* over *tables*."""
    with _database() as database:
        for name, table in tables.items():
            database.register(name, table)
        return database.sql(sql).to_arrow_table()


def checksum(table: pa.Table) -> Checksum:
    """Return the fingerprint of a table's rows."""
    with _database() as database:
        database.register("rows", table)
        return _checksum(database, "rows")


def rows_of(path: Path) -> pa.Table:
    """Return the rows of a Delta table, read without a JVM."""
    import pyarrow as pa
    from deltalake import DeltaTable

    return pa.table(DeltaTable(path).to_pyarrow_table())


def check_table(path: Path, expected: pa.Table) -> Checksum:
    """Check that a Delta table holds exactly the expected rows, each as often.

    Both deltalake and DuckDB's Parquet reader must find them.

    Raises:
        AssertionError: If not; it shows some of the rows that are wrong.
    """
    # One after the other: two copies of a table are enough to hold.
    proven = check_rows(rows_of(path), expected)
    what = f"{path.name}, read by DuckDB"
    check_rows(_rows_by_duckdb(path), expected, what=what)
    return proven


def check_rows(
    found: pa.Table, expected: pa.Table, *, what: str = "the table"
) -> Checksum:
    """Check that two tables hold the same rows, each as often, in any order.

    Raises:
        AssertionError: If not; it shows some of the rows that are wrong.
    """
    names = expected.column_names
    if sorted(found.column_names) != sorted(names):
        msg = f"{what} has columns {found.column_names}, expected {names}"
        raise AssertionError(msg)
    with _database() as database:
        database.register("found_raw", found)
        database.register("expected", expected)
        columns = database.execute("DESCRIBE expected").fetchall()
        # Engines choose among integer types differently; the values must agree.
        casts = ", ".join(
            f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind, *_ in columns
        )
        database.execute(
            f"CREATE TEMP VIEW found AS SELECT {casts} FROM found_raw"  # noqa: S608 - our own columns
        )
        sums = _checksum(database, "found"), _checksum(database, "expected")
        if sums[0] == sums[1]:
            return sums[0]
        difference = _difference(database, names)
        msg = f"{what} holds {sums[0]}; expected {sums[1]}\n{difference}"
        raise AssertionError(msg)


def check_offsets(
    batches: Sequence[MicroBatch], *feeds: Feed, first_batch_id: int = 0
) -> None:
    """Check that micro-batches took each row of each feed once, in order.

    Raises:
        AssertionError: If there is a gap, an overlap, or a row not taken.
    """
    wrong = []
    expected_id, reached = first_batch_id, None
    for batch in batches:
        if batch.batch_id != expected_id:
            wrong.append(f"batch {batch.batch_id} where {expected_id} was due")
        starts = [start for start, _ in batch.ranges]
        if reached is None and first_batch_id == 0:
            reached = [0] * len(starts)
        if reached is not None and starts != reached:
            wrong.append(f"batch {batch.batch_id} began at {starts}, not {reached}")
        reached = [end for _, end in batch.ranges]
        expected_id = batch.batch_id + 1
    ends = [feed.rows_count for feed in feeds]
    if reached != ends:
        wrong.append(f"the last batch ended at {reached}, the feeds at {ends}")
    if wrong:
        raise AssertionError("; ".join(wrong))


def _database() -> duckdb.DuckDBPyConnection:
    import duckdb

    # Two threads: the streams under test may still be at work.
    database = duckdb.connect(config={"threads": 2, "autoload_known_extensions": False})
    database.execute("SET TimeZone = 'UTC'")
    return database


def _checksum(database: duckdb.DuckDBPyConnection, view: str) -> Checksum:
    ((count, total, xor),) = database.execute(
        f"SELECT count(*), sum(hash(v)::HUGEINT), bit_xor(hash(v)) FROM {view} AS v"  # noqa: S608 - our own names
    ).fetchall()
    return Checksum(int(count), int(total or 0), int(xor or 0))


def _difference(database: duckdb.DuckDBPyConnection, names: Sequence[str]) -> str:
    ordered = ", ".join(f'"{name}"' for name in names)
    parts = []
    for title, left, right in (
        ("missing, or too few of them", "expected", "found"),
        ("not expected, or too many of them", "found", "expected"),
    ):
        query = f"SELECT {ordered} FROM {left} EXCEPT ALL SELECT {ordered} FROM {right}"  # noqa: S608 - our own names
        rows: list[Any] = database.execute(f"{query} ORDER BY ALL").fetchall()
        shown = "".join(f"\n    {row}" for row in rows[:_SHOWN_ROWS])
        parts.append(f"  {len(rows)} {title}: {ordered}{shown}")
    return "\n".join(parts)


def _rows_by_duckdb(path: Path) -> pa.Table:
    """Read the files that the table's log names."""
    from deltalake import DeltaTable

    table = DeltaTable(path)
    files = table.file_uris()
    if not files:
        return table.to_pyarrow_table().slice(0, 0)
    partitioned = bool(table.metadata().partition_columns)
    with _database() as database:
        return database.read_parquet(
            files, hive_partitioning=partitioned, union_by_name=True
        ).to_arrow_table()
