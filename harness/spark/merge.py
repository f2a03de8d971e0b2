"""Sinks for `foreachBatch` that MERGE a micro-batch into a Delta table.

Everything here also runs where only pyspark is: over Spark Connect a sink is
pickled and executed in a Python worker beside the server. So it speaks SQL only,
and this module imports nothing of ours.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

APP_ID_CONF = "spark.databricks.delta.write.txnAppId"
VERSION_CONF = "spark.databricks.delta.write.txnVersion"


@dataclass(frozen=True, kw_only=True)
class MergeSink:
    """MERGE each micro-batch into a table; a batch that comes again is skipped.

    Between the commit of the table and the commit of the batch a stream can die;
    then the same batch is delivered again. With *app_id*, Delta remembers the last
    batch of that application in the table itself and skips the MERGE.

    Attributes:
        target: The table in SQL: a name, or delta.`/path`.
        keys: Columns that identify a row; they hold no nulls.
        app_id: Name of this writer, one for each checkpoint and table: under a
            used name, a new checkpoint's batches would count as already written.
            None turns the protection off.
    """

    target: str
    keys: tuple[str, ...]
    app_id: str | None

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Merge one micro-batch."""
        # foreachBatch runs in a clone of the session: what is set on the session
        # the stream was started from has no effect on this MERGE.
        session = frame.sparkSession
        view = f"micro_batch_{uuid.uuid4().hex}"
        self.source(frame).createOrReplaceTempView(view)
        try:
            if self.app_id is not None:
                session.conf.set(APP_ID_CONF, self.app_id)
                session.conf.set(VERSION_CONF, str(batch_id))
            session.sql(self.statement(view, frame.columns)).collect()
        finally:
            if self.app_id is not None:
                session.conf.unset(APP_ID_CONF)
                session.conf.unset(VERSION_CONF)
            session.catalog.dropTempView(view)

    def source(self, frame: DataFrame) -> DataFrame:
        """Return the micro-batch with one row for each key, as MERGE demands."""
        raise NotImplementedError

    def statement(self, view: str, columns: list[str]) -> str:
        """Return the MERGE of the rows in *view*."""
        matched = self.when_matched(columns)
        on = " AND ".join(f"t.{_name(key)} = s.{_name(key)}" for key in self.keys)
        return (
            f"MERGE INTO {self.target} AS t USING {view} AS s ON {on}\n"
            f"{matched}\nWHEN NOT MATCHED THEN INSERT *"
        )

    def when_matched(self, columns: list[str]) -> str:
        """Return the clause for a key that is in the table already."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class UpsertSink(MergeSink):
    """Keep the latest row of each key (SCD type 1), however late an older one comes.

    Attributes:
        sequence: Column that orders the changes of a key; the highest wins.
    """

    sequence: str

    def source(self, frame: DataFrame) -> DataFrame:
        """Return the latest row of each key."""
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        rank = f"_rank_{uuid.uuid4().hex}"
        # Equal sequences would be decided by chance; the other columns decide.
        others = [
            column
            for column in frame.columns
            if column not in {*self.keys, self.sequence}
        ]
        order: list[Column] = [
            f.col(_name(column)).desc() for column in (self.sequence, *others)
        ]
        window = Window.partitionBy(*map(_name, self.keys)).orderBy(*order)
        ranked = frame.withColumn(rank, f.row_number().over(window))
        return ranked.where(f.col(rank) == 1).drop(rank)

    def when_matched(self, columns: list[str]) -> str:
        """Replace the row, unless the table has a later one."""
        del columns
        sequence = _name(self.sequence)
        return f"WHEN MATCHED AND s.{sequence} > t.{sequence} THEN UPDATE SET *"


@dataclass(frozen=True, kw_only=True)
class AddSink(MergeSink):
    """Add up the other columns for each key: every row counts exactly once."""

    def source(self, frame: DataFrame) -> DataFrame:
        """Return the sums of each key."""
        from pyspark.sql import functions as f

        amounts = [column for column in frame.columns if column not in self.keys]
        return frame.groupBy(*map(_name, self.keys)).agg(
            *(f.sum(_name(column)).alias(column) for column in amounts)
        )

    def when_matched(self, columns: list[str]) -> str:
        """Add the sums to the row."""
        added = ", ".join(
            f"t.{_name(column)} = t.{_name(column)} + s.{_name(column)}"
            for column in columns
            if column not in self.keys
        )
        return f"WHEN MATCHED THEN UPDATE SET {added}"


def _name(column: str) -> str:
    """Quote a column's name for SQL."""
    return "`" + column.replace("`", "``") + "`"
