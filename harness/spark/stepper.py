"""A stream driven step by step: add rows, let it process them, look, go on."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError
from harness.spark.progress import MicroBatch, micro_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_BETWEEN_BATCHES_TIMEOUT_S = 60.0
_POLL_DELAY_S = 0.01

# The file source takes files in the order of their times; written within one
# tick of the clock, their order would be chance.
_FIRST_FILE_S = 1_767_225_600  # 2026-01-01T00:00:00Z


class Stream:
    """A streaming query over a folder, fed one file at a time.

    Each `add` is one micro-batch, in the order of the calls.

    Args:
        spark: The session.
        folder: Where source and checkpoint live; on the server's file system.
        transform: The workload under test; default passes rows through.
        table: Name of the stream; its Delta table is *folder*/*table*.
        schema: Columns of the source, in SQL.
        sink: A `foreachBatch` function; default appends to the Delta table.
        output_mode: As Spark names it.
        clock: Time for the wait before stopping.
    """

    def __init__(
        self,
        spark: SparkSession,
        folder: Path,
        transform: Callable[[DataFrame], DataFrame] | None = None,
        *,
        table: str,
        schema: str = "event_time TIMESTAMP",
        sink: Callable[[DataFrame, int], None] | None = None,
        output_mode: str = "append",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.table = table
        self.path = folder / table
        self._spark = spark
        self._source = folder / f"{table}-source"
        self._checkpoint = folder / f"{table}-checkpoint"
        self._transform = transform
        self._schema = schema
        self._sink = sink
        self._output_mode = output_mode
        self._clock = clock
        self._files_count = 0
        self._past: list[MicroBatch] = []
        self._query: StreamingQuery | None = None
        self._source.mkdir(parents=True)

    def add(self, *rows: str | Mapping[str, Any]) -> None:
        """Put rows before the stream, as the input of one micro-batch.

        Args:
            rows: By column; a plain text is the first column.
        """
        first = self._schema.split(maxsplit=1)[0].strip("`")
        lines = (
            json.dumps({first: row} if isinstance(row, str) else dict(row), default=str)
            for row in rows
        )
        name = f"{self._files_count:06d}.json"
        # A file appears whole: it is renamed in, and hidden until then.
        hidden = self._source / f".{name}"
        hidden.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        time_s = _FIRST_FILE_S + self._files_count
        os.utime(hidden, (time_s, time_s))
        hidden.rename(self._source / name)
        self._files_count += 1

    def process_all(self) -> None:
        """Wait until everything added so far is processed and committed.

        Raises:
            SparkError: If the stream failed; with its cause and its progress.
        """
        query = self._running()
        try:
            query.processAllAvailable()
        except Exception as error:
            failure = query.exception() or error
            msg = f"stream {self.table!r} failed: {failure}\n{self.describe()}"
            raise SparkError(msg) from error

    def start(self) -> None:
        """Start the query from its checkpoint, as after a crash or a stop."""
        self.stop()
        rows = (
            self._spark.readStream.schema(self._schema)
            .option("maxFilesPerTrigger", 1)
            .json(self._source.as_uri())
        )
        frame = self._transform(rows) if self._transform else rows
        writer = (
            frame.writeStream.queryName(f"{self.table}_stream")
            .outputMode(self._output_mode)
            .option("checkpointLocation", self._checkpoint.as_uri())
        )
        if self._sink is not None:
            self._query = writer.foreachBatch(self._sink).start()
        else:
            self._query = writer.format("delta").start(self.path.as_uri())

    def stop(self) -> None:
        """Stop between two micro-batches; nothing if it does not run.

        Interrupting one kills Spark's thread with a stack overflow, and the
        query then looks as if it had stopped in good order.
        """
        query = self._query
        if query is None:
            return
        deadline_ns = self._clock.monotonic_ns() + int(
            _BETWEEN_BATCHES_TIMEOUT_S * NS_PER_S
        )
        while query.isActive and query.status["isTriggerActive"]:
            if self._clock.monotonic_ns() > deadline_ns:
                break  # a batch that hangs has to be interrupted after all
            self._clock.sleep(_POLL_DELAY_S)
        self._past += micro_batches(query)
        self._query = None
        query.stop()

    @property
    def batches(self) -> list[MicroBatch]:
        """Micro-batches completed so far, those before a restart included."""
        current = micro_batches(self._query) if self._query is not None else []
        return [*self._past, *current]

    @property
    def watermark(self) -> datetime | None:
        """Event time before which windows are closed, as of the last micro-batch."""
        batches = self.batches
        return batches[-1].watermark if batches else None

    @property
    def rows_dropped_by_watermark(self) -> int:
        """Late rows dropped so far, as Spark counts: partial aggregates, not rows."""
        return sum(batch.rows_dropped_by_watermark for batch in self.batches)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the Delta table, in no particular order."""
        frame = self._spark.read.format("delta").load(self.path.as_uri())
        return [row.asDict(recursive=True) for row in frame.collect()]

    def describe(self) -> str:
        """Say how far the stream got, for the message of a failure."""
        batches = self.batches
        lines = [
            f"  batch {b.batch_id}: {b.rows_count} rows in {b.duration_s:.2f} s"
            f"{f', watermark {b.watermark:%Y-%m-%d %H:%M:%S}' if b.watermark else ''}"
            for b in batches[-5:]
        ]
        head = (
            f"progress of stream {self.table!r}: {self._files_count} files added, "
            f"{len(batches)} micro-batches completed"
        )
        return "\n".join([head, *lines])

    def _running(self) -> StreamingQuery:
        if self._query is None:
            self.start()
        if self._query is None:
            msg = f"stream {self.table!r} was not started"
            raise SparkError(msg)
        return self._query


@contextmanager
def stepping(
    spark: SparkSession,
    folder: Path,
    transform: Callable[[DataFrame], DataFrame] | None = None,
    **options: Any,
) -> Iterator[Stream]:
    """Open a `Stream` (same arguments) and stop it on the way out.

    A failed assertion inside the block also shows how far the stream got.
    """
    stream = Stream(spark, folder, transform, **options)
    try:
        yield stream
    except AssertionError as error:
        error.add_note(stream.describe())
        raise
    finally:
        stream.stop()
