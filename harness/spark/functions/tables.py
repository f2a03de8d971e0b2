"""Tables: names, existence, layout, removal, and a stream from one to another."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from harness.errors import ConfigError
from harness.spark.functions.columns import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_PART = r"(?:[A-Za-z_][A-Za-z0-9_]*|`[^`]+`)"
_THREE_PARTS = re.compile(rf"{_PART}\.{_PART}\.{_PART}")


def is_valid_table_name(name: str) -> bool:
    """Whether it is `catalog.schema.table`, each part a name or in backticks."""
    return _THREE_PARTS.fullmatch(name) is not None


def does_table_exist(spark: SparkSession, name: str) -> bool:
    """Whether `catalog.schema.table` exists.

    Only "there is none" is False: without permission, or without a server, there is
    an error, not an answer.

    Raises:
        ConfigError: If the name has not three parts.
    """
    return spark.catalog.tableExists(_three_parts(name))


def get_max_of_a_column(frame: DataFrame, column: str) -> Any:
    """Return the largest value of a column; None if there is none.

    Raises:
        ConfigError: If the frame has no such column.
    """
    from pyspark.sql import functions as f

    if column not in frame.columns:
        msg = f"column must be one of {frame.columns}, got {column!r}"
        raise ConfigError(msg)
    row = frame.agg(f.max(quoted(column)).alias("largest")).first()
    return None if row is None else row["largest"]


def optimize_and_zorder_table(
    spark: SparkSession, name: str, columns: Sequence[str] = ()
) -> dict[str, Any]:
    """Compact a Delta table, ordered by *columns* if there are any.

    Returns:
        Delta's own metrics of the operation, such as `numFilesAdded`.

    Raises:
        ConfigError: If the name has not three parts.
    """
    by = ", ".join(map(quoted, columns))
    statement = f"OPTIMIZE {_three_parts(name)}" + (f" ZORDER BY ({by})" if by else "")
    row = spark.sql(statement).collect()[0]
    metrics: dict[str, Any] = row["metrics"].asDict()
    return metrics


def drop_table_and_clean_path(spark: SparkSession, name: str) -> None:
    """Drop a Delta table and remove its files, those of an external table too.

    Files are removed where this process can reach them: on a local file system. A
    location elsewhere is the owner's to clean; the error says which, before anything
    was dropped.

    Raises:
        ConfigError: If the name has not three parts, or the location is not a local
            folder of a Delta table.
    """
    if not does_table_exist(spark, name):
        return
    detail = spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]
    folder = _local_table(name, detail["location"])
    spark.sql(f"DROP TABLE {name}")
    if folder.exists():
        shutil.rmtree(folder)


def drop_all_tables_and_clean_path(spark: SparkSession, schema: str) -> list[str]:
    """Drop every Delta table of `catalog.schema` with its files; views are left.

    Returns:
        The names of the tables that were dropped.

    Raises:
        ConfigError: If one of them cannot be cleaned; those before it are gone.
    """
    names = [
        f"{schema}.{quoted(table.name)}"
        for table in spark.catalog.listTables(schema)
        if table.tableType != "VIEW" and not table.isTemporary
    ]
    for name in names:
        drop_table_and_clean_path(spark, name)
    return names


def stream_delta_table(
    spark: SparkSession,
    *,
    source: str,
    target: str,
    checkpoint: str,
    skip_changes: bool = False,
    available_now: bool = True,
) -> StreamingQuery:
    """Start a stream that appends the rows of one Delta table to another.

    Args:
        spark: The session.
        source: `catalog.schema.table` to read.
        target: `catalog.schema.table` to append to; made if there is none.
        checkpoint: Where the stream remembers how far it is: the same at each start,
            or it begins anew and doubles every row.
        skip_changes: Whether commits that change or delete rows are passed over;
            otherwise they end the stream, as nothing can be appended for them.
        available_now: Whether it ends with what is there; else it goes on.

    Raises:
        ConfigError: If a name has not three parts.
    """
    rows = spark.readStream.option("skipChangeCommits", str(skip_changes).lower())
    writer = (
        rows.table(_three_parts(source))
        .writeStream.format("delta")
        .option("checkpointLocation", checkpoint)
        .queryName(f"{source} to {target}")
    )
    if available_now:
        writer = writer.trigger(availableNow=True)
    return writer.toTable(_three_parts(target))


def _three_parts(name: str) -> str:
    if not is_valid_table_name(name):
        msg = (
            "a table's name must be catalog.schema.table, parts with other characters "
            f"in backticks, got {name!r}"
        )
        raise ConfigError(msg)
    return name


def _local_table(name: str, location: str) -> Path:
    """Return the folder of a table, if it is one that may be removed."""
    parts = urlsplit(location)
    folder = Path(unquote(parts.path))
    if parts.scheme not in {"", "file"} or not (folder / "_delta_log").is_dir():
        msg = (
            f"{name}: location {location} is not a local folder of a Delta table, so "
            "its files cannot be removed from here; nothing was dropped. DROP TABLE "
            "it, and clean the location with its owner's tools"
        )
        raise ConfigError(msg)
    return folder
