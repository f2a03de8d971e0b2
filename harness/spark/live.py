"""The last progress of every active stream, in the shape of live updates."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.reports.live import LiveStream
from harness.spark.progress import micro_batch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def live_streams(spark: SparkSession, *, now: datetime) -> list[LiveStream]:
    """Return the streams that run in a session.

    Args:
        spark: The session.
        now: The time on the clock of the events; watermark lag is counted from it.
    """
    streams = []
    for query in spark.streams.active:
        progress = query.lastProgress
        name = query.name or str(query.id)
        streams.append(
            LiveStream(name=name) if progress is None else of(progress, name, now=now)
        )
    return streams


def of(progress: Any, name: str, *, now: datetime) -> LiveStream:
    """Return one progress; what a source does not say stays empty."""
    batch = micro_batch(progress)
    if batch is None:
        # A trigger that found nothing: the stream is alive, and idle.
        return LiveStream(name=name, input_rows_per_s=0.0, processed_rows_per_s=0.0)
    lag_s = None
    # Before the first event the watermark stands at the epoch.
    if batch.watermark is not None and batch.watermark > datetime.fromtimestamp(0, UTC):
        lag_s = (now - batch.watermark).total_seconds()
    return LiveStream(
        name=name,
        batch_id=batch.batch_id,
        input_rows_per_s=_finite(progress.inputRowsPerSecond),
        processed_rows_per_s=_finite(progress.processedRowsPerSecond),
        batch_duration_ms=batch.duration_s * 1000,
        watermark_lag_s=lag_s,
        backlog_rows=batch.backlog_rows,
        state_rows=batch.state_rows,
    )


def _finite(value: float | None) -> float | None:
    """Spark says infinity, or no number, of a batch that took no time."""
    return value if value is not None and abs(value) < float("inf") else None
