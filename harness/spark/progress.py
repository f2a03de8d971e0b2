"""What a stream says about its micro-batches, as plain records."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyspark.sql.streaming.query import StreamingQuery

MS_PER_S = 1000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """One micro-batch that ran.

    Attributes:
        batch_id: Its number in the checkpoint.
        started_at: When its trigger fired.
        duration_s: `durationMs.triggerExecution`: planning, the write and both
            commits, in seconds.
        durations_ms: The parts of it, as Spark names them.
        rows_count: Rows read. From the offsets where they count rows, because
            Spark's own count is multiplied by each action of a foreachBatch.
        rows_are_exact: Whether it is from the offsets.
        rows_dropped_by_watermark: Rows, or partial aggregates, that came too late.
        watermark: Event time before which windows are closed, or None.
        ranges: Offsets (start, end) of each source whose offset is a number of rows.
        backlog_rows: Rows available and not yet processed after it, or None where a
            source does not say.
        state_rows: Rows kept in the state stores after it.
        state_bytes: Memory of the state stores.
    """

    batch_id: int
    started_at: datetime
    duration_s: float
    durations_ms: Mapping[str, int]
    rows_count: int
    rows_are_exact: bool
    rows_dropped_by_watermark: int
    watermark: datetime | None
    ranges: tuple[tuple[int, int], ...] = ()
    backlog_rows: int | None = None
    state_rows: int = 0
    state_bytes: int = 0

    @property
    def visible_at(self) -> datetime:
        """When its rows were in the sink: before the checkpoint noted it as done."""
        written_s = (
            self.duration_s - self.durations_ms.get("commitOffsets", 0) / MS_PER_S
        )
        return self.started_at + timedelta(seconds=written_s)

    @property
    def ended_at(self) -> datetime:
        """When it was done."""
        return self.started_at + timedelta(seconds=self.duration_s)


def micro_batches(query: StreamingQuery) -> list[MicroBatch]:
    """Return every micro-batch of a query that read or changed something."""
    return _records(query.recentProgress)


def micro_batch(progress: Any) -> MicroBatch | None:
    """Return the micro-batch of one progress; None of a trigger that found nothing."""
    found = _records([progress])
    return found[0] if found else None


def elapsed_s(batches: Sequence[MicroBatch]) -> float:
    """Seconds from the start of the first batch to the end of the last one."""
    between = batches[-1].started_at - batches[0].started_at
    return between.total_seconds() + batches[-1].duration_s


def _records(progresses: Iterable[Any]) -> list[MicroBatch]:
    # Attributes, not keys: over Spark Connect, keys give None.
    records: dict[int, MicroBatch] = {}
    for progress in progresses:
        durations_ms = dict(progress.durationMs)
        if "addBatch" not in durations_ms:
            continue  # a trigger that found nothing to do reports as well
        rows_count, exact = _rows(progress)
        watermark = dict(progress.eventTime).get("watermark")
        records[progress.batchId] = MicroBatch(
            batch_id=progress.batchId,
            started_at=_time(progress.timestamp),
            duration_s=durations_ms["triggerExecution"] / MS_PER_S,
            durations_ms=durations_ms,
            rows_count=rows_count,
            rows_are_exact=exact,
            rows_dropped_by_watermark=sum(
                operator.numRowsDroppedByWatermark
                for operator in progress.stateOperators
            ),
            watermark=_time(watermark) if watermark else None,
            ranges=_ranges(progress.sources),
            backlog_rows=_backlog(progress.sources),
            state_rows=sum(o.numRowsTotal for o in progress.stateOperators),
            state_bytes=sum(o.memoryUsedBytes for o in progress.stateOperators),
        )
    return list(records.values())


def _rows(progress: Any) -> tuple[int, bool]:
    counts = [
        _offset_rows(source.startOffset, source.endOffset)
        for source in progress.sources
    ]
    known = [count for count in counts if count is not None]
    if len(known) == len(counts):
        return sum(known), True
    return progress.numInputRows, False


def _ranges(sources: Iterable[Any]) -> tuple[tuple[int, int], ...]:
    found = []
    for source in sources:
        end = _offset(source.endOffset)
        start = _offset(source.startOffset)
        if end is not None:
            found.append((start or 0, end))
    return tuple(found)


def _backlog(sources: Sequence[Any]) -> int | None:
    latest = [_offset(source.latestOffset) for source in sources]
    done = [_offset(source.endOffset) for source in sources]
    pairs = [(a, b) for a, b in zip(latest, done, strict=True) if a is not None]
    if len(pairs) < len(latest) or not pairs:
        return None
    return sum(max(0, a - (b or 0)) for a, b in pairs)


def _offset_rows(start: str | None, end: str | None) -> int | None:
    """Rows between two offsets, for sources whose offset is a number of rows."""
    last, first = _offset(end), 0 if start in (None, "null") else _offset(start)
    return None if last is None or first is None else last - first


def _offset(text: str | None) -> int | None:
    try:
        value = json.loads(text or "null")
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("offset")
    return value if isinstance(value, int) else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
