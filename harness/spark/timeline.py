"""The micro-batches of a run over time, short enough to be kept in a record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.spark.progress import MicroBatch

# Four columns of so many numbers are about 12 kB of a report.
POINTS_MAX = 300

Column = list[float | None]


def timeline(
    batches: Sequence[MicroBatch], *, clock_ahead_s: float | None = None
) -> dict[str, Column]:
    """Return the columns of a page's streaming charts, one entry per micro-batch.

    Neighbours are joined where there are too many: rows are added up, of the other
    figures the largest stays. A figure that no micro-batch has is left out.

    Args:
        batches: In the order of their start.
        clock_ahead_s: By how much this machine's clock is ahead of that of the events,
            in seconds; None where events are replayed, not sent as time goes by: then
            the watermark says nothing about being late, and is left out.

    Returns:
        `at_s`, seconds from the first start to an end; `rows_per_s`, rows by the time
        since the end before; `batch_duration_s`; `watermark_lag_s`, the events'
        clock at the end of the batch minus watermark; `backlog_rows`.
    """
    if not batches:
        return {}
    first = batches[0].started_at
    size = -(-len(batches) // POINTS_MAX)
    groups = [batches[start : start + size] for start in range(0, len(batches), size)]
    ends_s = [
        max((batch.ended_at - first).total_seconds() for batch in group)
        for group in groups
    ]
    taken_s = np.diff(ends_s, prepend=0.0)
    columns: dict[str, Column] = {
        "at_s": [round(end_s, 3) for end_s in ends_s],
        "rows_per_s": [
            round(sum(batch.rows_count for batch in group) / passed_s, 1)
            if passed_s > 0
            else None
            for group, passed_s in zip(groups, taken_s.tolist(), strict=True)
        ],
        "batch_duration_s": [
            round(max(batch.duration_s for batch in group), 4) for group in groups
        ],
        "watermark_lag_s": [
            _largest(
                watermark_lag_s(batch.watermark, batch.ended_at, clock_ahead_s)
                for batch in group
            )
            for group in groups
        ],
        "backlog_rows": [
            _largest(batch.backlog_rows for batch in group) for group in groups
        ],
    }
    return {
        key: column
        for key, column in columns.items()
        if any(value is not None for value in column)
    }


def watermark_lag_s(
    watermark: datetime | None, now: datetime, clock_ahead_s: float | None
) -> float | None:
    """Return how far a watermark is behind the events' clock, in seconds.

    Args:
        watermark: None if the query has none.
        now: The time here.
        clock_ahead_s: See `timeline`.
    """
    if clock_ahead_s is None or watermark is None:
        return None
    # Before the first event the watermark stands at the epoch.
    if watermark <= datetime.fromtimestamp(0, UTC):
        return None
    return round((now - watermark).total_seconds() - clock_ahead_s, 3)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
