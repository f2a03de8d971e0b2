"""One thing that happened to a stream, as a row of the metrics table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.spark.progress import micro_batch

if TYPE_CHECKING:
    from datetime import datetime

    from pyspark.sql.streaming.listener import (
        QueryIdleEvent,
        QueryProgressEvent,
        QueryStartedEvent,
        QueryTerminatedEvent,
    )

EventType = Literal["started", "progress", "idle", "terminated"]

SCHEMA = (
    "event_type STRING, collection_time TIMESTAMP, stream_id STRING, "
    "stream_name STRING, run_id STRING, batch_id BIGINT, num_input_rows BIGINT, "
    "input_rows_per_second DOUBLE, processed_rows_per_second DOUBLE, "
    "batch_duration_ms BIGINT, is_active BOOLEAN, raw_progress_json STRING"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamEvent:
    """A row of the metrics table, under the names its readers know.

    Attributes:
        event_type: What happened.
        collection_time: When the listener was told.
        stream_id: The query, the same over restarts.
        stream_name: Its name, if it has one.
        run_id: This start of the query.
        batch_id: The micro-batch, of a progress.
        num_input_rows: Rows read by it: from the offsets where they count rows, as
            Spark's own number is multiplied by each action of a foreachBatch.
        input_rows_per_second: Spark's figure: rows by time since the trigger before.
        processed_rows_per_second: Spark's figure: rows by duration of the batch.
        batch_duration_ms: Duration of the trigger.
        is_active: Whether the query runs on.
        raw_progress_json: All that Spark said; of a terminated one, its error.
    """

    event_type: EventType
    collection_time: datetime
    stream_id: str
    run_id: str
    stream_name: str | None = None
    batch_id: int | None = None
    num_input_rows: int | None = None
    input_rows_per_second: float | None = None
    processed_rows_per_second: float | None = None
    batch_duration_ms: int | None = None
    is_active: bool = True
    raw_progress_json: str | None = None

    def row(self) -> tuple[Any, ...]:
        """Return the values in the order of `SCHEMA`."""
        values = dataclasses.asdict(self)
        return tuple(values[part.split()[0]] for part in SCHEMA.split(", "))


def started(event: QueryStartedEvent, at: datetime) -> StreamEvent:
    """Return the row of a query that started."""
    return StreamEvent(
        event_type="started",
        collection_time=at,
        stream_id=str(event.id),
        stream_name=event.name,
        run_id=str(event.runId),
    )


def progressed(event: QueryProgressEvent, at: datetime) -> StreamEvent:
    """Return the row of a trigger that was run."""
    progress = event.progress
    batch = micro_batch(progress)
    return StreamEvent(
        event_type="progress",
        collection_time=at,
        stream_id=str(progress.id),
        stream_name=progress.name,
        run_id=str(progress.runId),
        batch_id=progress.batchId,
        num_input_rows=batch.rows_count if batch else 0,
        input_rows_per_second=_finite(progress.inputRowsPerSecond),
        processed_rows_per_second=_finite(progress.processedRowsPerSecond),
        batch_duration_ms=dict(progress.durationMs).get("triggerExecution"),
        raw_progress_json=progress.json,
    )


def idle(event: QueryIdleEvent, at: datetime) -> StreamEvent:
    """Return the row of a query that waits for input."""
    return StreamEvent(
        event_type="idle",
        collection_time=at,
        stream_id=str(event.id),
        run_id=str(event.runId),
        num_input_rows=0,
    )


def terminated(event: QueryTerminatedEvent, at: datetime) -> StreamEvent:
    """Return the row of a query that ended, with its error if it failed."""
    return StreamEvent(
        event_type="terminated",
        collection_time=at,
        stream_id=str(event.id),
        run_id=str(event.runId),
        is_active=False,
        raw_progress_json=event.exception,
    )


def _finite(value: float | None) -> float | None:
    """Return Spark's figure; it says NaN or infinity where it divided by nothing."""
    return value if value is not None and abs(value) < float("inf") else None
