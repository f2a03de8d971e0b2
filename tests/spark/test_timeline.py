"""What a record keeps of a stream's micro-batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.spark.progress import MicroBatch
from harness.spark.timeline import POINTS_MAX, timeline

START = datetime(2026, 1, 1, tzinfo=UTC)


def batch(index, *, duration_s=1.0, rows=100, watermark=None, backlog=None):
    return MicroBatch(
        batch_id=index,
        started_at=START + timedelta(seconds=2 * index),
        duration_s=duration_s,
        durations_ms={},
        rows_count=rows,
        rows_are_exact=True,
        rows_dropped_by_watermark=0,
        watermark=watermark,
        backlog_rows=backlog,
    )


def test_rows_are_counted_by_the_time_since_the_batch_before_ended():
    columns = timeline([batch(0), batch(1, rows=300)])

    assert columns["at_s"] == [1.0, 3.0]
    assert columns["rows_per_s"] == [100.0, 150.0]


def test_watermark_lag_is_the_clock_minus_the_watermark_and_never_since_the_epoch():
    columns = timeline(
        [
            batch(0, watermark=datetime.fromtimestamp(0, UTC)),
            batch(1, watermark=START - timedelta(seconds=7)),
        ],
        clock_ahead_s=4.0,
    )

    assert columns["watermark_lag_s"] == [None, 6.0]


def test_watermark_of_replayed_events_is_no_lag():
    """They are of last year: how far behind the clock they are says nothing."""
    columns = timeline([batch(0, watermark=START - timedelta(days=300))])

    assert "watermark_lag_s" not in columns


def test_what_no_batch_has_is_left_out():
    assert set(timeline([batch(0)])) == {"at_s", "rows_per_s", "batch_duration_s"}
    assert timeline([]) == {}


def test_a_long_run_keeps_its_rows_and_its_worst_moments():
    batches = [batch(i, backlog=i % 7) for i in range(5 * POINTS_MAX - 1)]
    batches[777] = batch(777, duration_s=1.9, backlog=99)
    columns = timeline(batches)

    assert len(columns["at_s"]) <= POINTS_MAX
    assert max(columns["batch_duration_s"]) == 1.9
    assert max(columns["backlog_rows"]) == 99
    passed_s = [
        after - before
        for before, after in zip([0.0, *columns["at_s"]], columns["at_s"], strict=False)
    ]
    rows = sum(
        rate * seconds
        for rate, seconds in zip(columns["rows_per_s"], passed_s, strict=True)
    )
    assert rows == pytest.approx(100 * len(batches), rel=1e-2)
