"""Columns of a frame: ingestion columns, names, nested types as text."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType

INGESTION_TIME = "ingestion_time"
INGESTION_DATE = "ingestion_date"
SOURCE_FILE = "source_file"


def append_ingestion_columns(
    frame: DataFrame, *, source_file: bool = False
) -> DataFrame:
    """Add `ingestion_time` and `ingestion_date`, and on demand `source_file`.

    The date is the one in the session's time zone. In a stream all rows of a
    micro-batch have the same time: Spark fixes it when the batch starts.

    Args:
        frame: Rows, of a stream or not.
        source_file: Whether to add `source_file`; the frame is read from files.

    Raises:
        ConfigError: If the frame has one of these columns already.
    """
    from pyspark.sql import functions as f

    added = {
        INGESTION_TIME: f.current_timestamp(),
        INGESTION_DATE: f.current_date(),
    }
    if source_file:
        added[SOURCE_FILE] = f.col("_metadata.file_path")
    there = {column.lower() for column in frame.columns}
    taken = sorted(there.intersection(added))
    if taken:
        msg = f"columns {taken} exist already: they would be overwritten"
        raise ConfigError(msg)
    return frame.withColumns(added)


def convert_camel_case_to_snake_case(name: str) -> str:
    """Return `userIDNumber` as `user_id_number`; snake case stays as it is."""
    # A word ends before a capital that begins the next one: after a small letter or
    # a digit (userID), or where a row of capitals goes over into a word (IDNumber).
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return parted.lower()


def snake_case_columns(frame: DataFrame) -> DataFrame:
    """Rename all columns to snake case.

    Raises:
        ConfigError: If two columns would get the same name; both are named.
    """
    renamed = [convert_camel_case_to_snake_case(name) for name in frame.columns]
    twice = {name for name, count in Counter(renamed).items() if count > 1}
    if twice:
        pairs = zip(frame.columns, renamed, strict=True)
        old = sorted(before for before, after in pairs if after in twice)
        msg = f"columns {old} would all be called {sorted(twice)}: rename one first"
        raise ConfigError(msg)
    return frame.toDF(*renamed)


# The name that users of the demos know; what it makes is snake case.
camel_case_dataframe_columns = snake_case_columns


def cast_array_as_string(frame: DataFrame) -> DataFrame:
    """Turn each array column into JSON text, as `["a","b"]`; null stays null."""
    from pyspark.sql.types import ArrayType

    return _as_json(frame, lambda kind: isinstance(kind, ArrayType))


def cast_array_and_struct_as_string(frame: DataFrame) -> DataFrame:
    """Turn each array, struct and map column into JSON text; null stays null."""
    from pyspark.sql.types import ArrayType, MapType, StructType

    nested = (ArrayType, MapType, StructType)
    return _as_json(frame, lambda kind: isinstance(kind, nested))


def _as_json(frame: DataFrame, wanted: Callable[[DataType], bool]) -> DataFrame:
    from pyspark.sql import functions as f

    # Fields that are null are kept, so that the text says all that the value said.
    keep = {"ignoreNullFields": "false"}
    return frame.select(
        *(
            f.to_json(quoted(field.name), keep).alias(field.name)
            if wanted(field.dataType)
            else f.col(quoted(field.name))
            for field in frame.schema.fields
        )
    )


def quoted(column: str) -> str:
    """Return the name of a column so that dots and spaces in it are part of it."""
    return "`" + column.replace("`", "``") + "`"
