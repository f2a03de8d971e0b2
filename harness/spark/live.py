"""The last progress of every active stream, in the shape of live updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.reports.live import LiveStream
from harness.spark.progress import micro_batch
from harness.spark.timeline import watermark_lag_s

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pyspark.sql import SparkSession


def live_streams(
    spark: SparkSession,
    *,
    now: datetime,
    clocks_ahead_s: Mapping[str, float | None] | None = None,
) -> list[LiveStream]:
    """Return the streams that run in a session.

    Args:
        spark: The session.
        now: The time here; watermark lag is counted from it.
        clocks_ahead_s: By how much it is ahead of the clock of the events, by name of
            the query, in seconds. None where events are replayed, not sent as time
            goes by: their watermark says nothing about being late, and is left out.
            Streams that are not in it have the clock of this machine.
    """
    known = clocks_ahead_s or {}
    streams = []
    for query in spark.streams.active:
        progress = query.lastProgress
        name = query.name or str(query.id)
        streams.append(
            LiveStream(name=name)
            if progress is None
            else of(progress, name, now=now, clock_ahead_s=known.get(name, 0.0))
        )
    return streams


def of(
    progress: Any, name: str, *, now: datetime, clock_ahead_s: float | None = 0.0
) -> LiveStream:
    """Return one progress; what a source does not say stays empty."""
    batch = micro_batch(progress)
    if batch is None:
        # A trigger that found nothing: the stream is alive, and idle.
        return LiveStream(name=name, input_rows_per_s=0.0, processed_rows_per_s=0.0)
    return LiveStream(
        name=name,
        batch_id=batch.batch_id,
        input_rows_per_s=_finite(progress.inputRowsPerSecond),
        processed_rows_per_s=_finite(progress.processedRowsPerSecond),
        batch_duration_ms=batch.duration_s * 1000,
        watermark_lag_s=watermark_lag_s(batch.watermark, now, clock_ahead_s),
        backlog_rows=batch.backlog_rows,
        state_rows=batch.state_rows,
    )


def _finite(value: float | None) -> float | None:
    """Spark says infinity, or no number, of a batch that took no time."""
    return value if value is not None and abs(value) < float("inf") else None
