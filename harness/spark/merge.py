"""Sinks for `foreachBatch` that MERGE a micro-batch into a Delta table.

Everything here also runs where only pyspark is: over Spark Connect a sink is
pickled and executed in a Python worker beside the server. So it speaks SQL only,
and this module imports nothing of ours.
"""

from __future__ import annotations

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

_LOG = logging.getLogger(__name__)
# Delta's names of what is wrong when two writers meet all begin with it.
_CONFLICT = "DELTA_CONCURRENT_"

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
        only: What holds, in SQL, for every row of the target `t` that this sink
            touches, such as "t.`source` = 'web'". Two streams that write one table
            do not stand in each other's way if it tells their partitions apart.
        prune_by: Key columns whose least and greatest value in the micro-batch are
            put into the condition as literals: files that hold none in between are
            not read. It costs an aggregation of the micro-batch.
        attempts_max: How often a MERGE is tried that meets a commit of another, such
            as an OPTIMIZE beside it. Nothing of a failed one is in the table.
    """

    target: str
    keys: tuple[str, ...]
    app_id: str | None
    only: str | None = None
    prune_by: tuple[str, ...] = ()
    attempts_max: int = 4

    def __post_init__(self) -> None:
        """Refuse what would insert a key again that is outside the range read."""
        strangers = sorted(set(self.prune_by) - set(self.keys))
        if strangers:
            msg = f"prune_by: {strangers} are not among the keys {self.keys}"
            raise ValueError(msg)
        if self.attempts_max < 1:
            msg = f"attempts_max must be >= 1, got {self.attempts_max}"
            raise ValueError(msg)

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Merge one micro-batch."""
        # foreachBatch runs in a clone of the session: what is set on the session
        # the stream was started from has no effect on this MERGE.
        session = frame.sparkSession
        # Streams of one session share its views: a fixed name would be another's.
        view = f"micro_batch_{uuid.uuid4().hex}"
        source = self.source(frame)
        source.createOrReplaceTempView(view)
        try:
            statement = self.statement(
                view, source.columns, within=_ranges(frame, self.prune_by)
            )
            with written_once(session, self.app_id, batch_id):
                self._merge(session, statement, batch_id)
        finally:
            session.catalog.dropTempView(view)

    def source(self, frame: DataFrame) -> DataFrame:
        """Return the micro-batch with one row for each key, as MERGE demands."""
        raise NotImplementedError

    def _merge(self, session: SparkSession, statement: str, batch_id: int) -> None:
        for attempt in range(1, self.attempts_max + 1):
            try:
                session.sql(statement).collect()
            except Exception as error:
                if _CONFLICT not in str(error) or attempt == self.attempts_max:
                    raise
                _LOG.warning(
                    "batch %d: MERGE into %s met the commit of another; attempt %d of "
                    "%d failed",
                    batch_id,
                    self.target,
                    attempt,
                    self.attempts_max,
                )
            else:
                return

    def statement(
        self, view: str, columns: list[str], *, within: Sequence[str] = ()
    ) -> str:
        """Return the MERGE of the rows in *view*.

        Args:
            view: Where the rows are.
            columns: Their names.
            within: What else holds for rows of the target they can match.
        """
        matched = self.when_matched(columns)
        same = [f"t.{_name(key)} = s.{_name(key)}" for key in self.match_on()]
        on = " AND ".join([*([self.only] if self.only else []), *within, *same])
        return (
            f"MERGE INTO {self.target} AS t USING {view} AS s ON {on}\n"
            f"{matched}\nWHEN NOT MATCHED THEN INSERT *"
        )

    def match_on(self) -> tuple[str, ...]:
        """Return the columns that make two rows the same one."""
        return self.keys

    def when_matched(self, columns: list[str]) -> str:
        """Return the clause for a key that is in the table already."""
        raise NotImplementedError


@contextmanager
def written_once(
    session: SparkSession, app_id: str | None, batch_id: int
) -> Iterator[None]:
    """Let Delta skip what this batch has written already, table by table.

    Args:
        session: The frame's own: foreachBatch runs in a clone of the outer one.
        app_id: See `MergeSink.app_id`; None does nothing.
        batch_id: Of the micro-batch.
    """
    if app_id is None:
        yield
        return
    session.conf.set(APP_ID_CONF, app_id)
    session.conf.set(VERSION_CONF, str(batch_id))
    try:
        yield
    finally:
        session.conf.unset(APP_ID_CONF)
        session.conf.unset(VERSION_CONF)


@dataclass(frozen=True, kw_only=True)
class UpsertSink(MergeSink):
    """Keep the latest row of each key (SCD type 1), however late an older one comes.

    Attributes:
        sequence: Column that orders the changes of a key; the highest wins.
    """

    sequence: str

    def source(self, frame: DataFrame) -> DataFrame:
        """Return the latest row of each key."""
        return first_of_each(frame, self.keys, (self.sequence,))

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


@dataclass(frozen=True, kw_only=True)
class HistorySink(MergeSink):
    """Keep every version of each key and how long it held (SCD type 2).

    A version holds from its sequence until the next one's, `valid_to`; the last one
    has none. A change that comes late is put between its neighbours: the versions of
    the keys in the micro-batch are ordered anew. A delete is a version like others,
    so that an older change that comes after it does not bring the row back.

    Attributes:
        sequence: Column that orders the changes of a key.
    """

    sequence: str

    def source(self, frame: DataFrame) -> DataFrame:
        """Return all versions of the keys in the micro-batch, in order."""
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        columns = list(frame.columns)
        keys = [_name(key) for key in self.keys]
        touched = frame.select(*keys).distinct()
        where = f" AS t WHERE {self.only}" if self.only else ""
        known = frame.sparkSession.sql(f"SELECT * FROM {self.target}{where}")  # noqa: S608 - our own names
        known = known.join(touched, list(self.keys), "left_semi")
        versions = frame.unionByName(known.select(*map(_name, columns)))
        versions = first_of_each(versions, (*self.keys, self.sequence), ())
        following = f.lead(_name(self.sequence)).over(
            Window.partitionBy(*keys).orderBy(_name(self.sequence))
        )
        return versions.withColumn("valid_to", following)

    def match_on(self) -> tuple[str, ...]:
        """Return the columns that identify a version."""
        return (*self.keys, self.sequence)

    def when_matched(self, columns: list[str]) -> str:
        """Only where a version holds can change."""
        del columns
        return (
            "WHEN MATCHED AND NOT (t.valid_to <=> s.valid_to) "
            "THEN UPDATE SET t.valid_to = s.valid_to"
        )


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """Write each micro-batch to several tables at once.

    Each table remembers the batch by itself: after a crash between two of them, the
    ones that have it skip it.

    Attributes:
        sinks: One for each table, with no `app_id` of their own: the setting is the
            session's, which the threads share.
        app_id: See `MergeSink.app_id`.
        threads_count: How many are written at a time.
    """

    sinks: tuple[Callable[[DataFrame, int], None], ...]
    app_id: str | None
    threads_count: int = 2

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Write one micro-batch; what fails in several tables is raised together."""
        # Read once, not once for each table.
        frame.persist()
        try:
            with (
                written_once(frame.sparkSession, self.app_id, batch_id),
                ThreadPoolExecutor(self.threads_count) as threads,
            ):
                running = [threads.submit(s, frame, batch_id) for s in self.sinks]
                errors = [e for e in (task.exception() for task in running) if e]
            if errors:
                msg = f"batch {batch_id}: {len(errors)} of {len(running)} tables failed"
                raise BaseExceptionGroup(msg, errors)
        finally:
            frame.unpersist()


@dataclass(frozen=True, kw_only=True)
class OptimizingSink:
    """Compact the table every so many micro-batches, after the write.

    Attributes:
        sink: What writes the micro-batch.
        target: The table in SQL.
        every: After this many micro-batches, so never after the first.
    """

    sink: Callable[[DataFrame, int], None]
    target: str
    every: int

    def __call__(self, frame: DataFrame, batch_id: int) -> None:
        """Write one micro-batch, and compact where it is time."""
        self.sink(frame, batch_id)
        if (batch_id + 1) % self.every == 0:
            frame.sparkSession.sql(f"OPTIMIZE {self.target}").collect()


def first_of_each(
    frame: DataFrame, keys: tuple[str, ...], newest_by: tuple[str, ...]
) -> DataFrame:
    """Return one row for each key: the one highest in *newest_by*.

    Equal ones would be decided by chance, and differently when a batch comes again;
    the other columns decide.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    rank = f"_rank_{uuid.uuid4().hex}"
    others = [c for c in frame.columns if c not in {*keys, *newest_by}]
    order: list[Column] = [f.col(_name(c)).desc() for c in (*newest_by, *others)]
    partition = Window.partitionBy(*map(_name, keys))
    window = partition.orderBy(*(order or [f.lit(1)]))
    ranked = frame.withColumn(rank, f.row_number().over(window))
    return ranked.where(f.col(rank) == 1).drop(rank)


def _ranges(frame: DataFrame, columns: tuple[str, ...]) -> list[str]:
    """Return what holds for each column of the target that equals one of *frame*."""
    if not columns:
        return []
    from pyspark.sql import functions as f

    bounds = [
        bound(_name(column)).cast("string")
        for column in columns
        for bound in (f.min, f.max)
    ]
    found = frame.agg(*(b.alias(f"_{i}") for i, b in enumerate(bounds))).collect()[0]
    types = dict(frame.dtypes)
    ranges = []
    for place, column in enumerate(columns):
        low, high = found[2 * place], found[2 * place + 1]
        if low is None:  # an empty micro-batch matches nothing
            return ["false"]
        literals = (f"CAST({_text(end)} AS {types[column]})" for end in (low, high))
        ranges.append(f"t.{_name(column)} BETWEEN {' AND '.join(literals)}")
    return ranges


def _text(value: str) -> str:
    """Quote a text for SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _name(column: str) -> str:
    """Quote a column's name for SQL."""
    return "`" + column.replace("`", "``") + "`"
