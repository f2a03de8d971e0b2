from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from harness.spark.progress import elapsed_s, micro_batches


def progress(
    batch_id, *, second=0, duration_ms=500, start="null", end="100", latest=None, **more
):
    """What Spark reports of one trigger, as far as it is read."""
    return SimpleNamespace(
        batchId=batch_id,
        timestamp=f"2026-01-01T00:00:{second:02d}.000Z",
        durationMs={"addBatch": 300, "triggerExecution": duration_ms},
        eventTime={},
        stateOperators=[],
        numInputRows=300,
        sources=[
            SimpleNamespace(startOffset=start, endOffset=end, latestOffset=latest)
        ],
        **more,
    )


def query(*progresses):
    return SimpleNamespace(recentProgress=list(progresses))


@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        ("null", "100", 100),
        (None, "100", 100),
        ("100", "250", 150),
        ('{"offset": 10}', '{"offset": 25, "timestamp": 7}', 15),
    ],
)
def test_rows_come_from_offsets_that_count_rows(start, end, rows):
    """numInputRows is tripled by three actions on one foreachBatch frame."""
    (batch,) = micro_batches(query(progress(0, start=start, end=end)))

    assert (batch.rows_count, batch.rows_are_exact) == (rows, True)


def test_rows_of_other_sources_are_sparks_count_and_marked_so():
    (batch,) = micro_batches(
        query(progress(0, start='{"logOffset":0}', end='{"logOffset":1}'))
    )

    assert (batch.rows_count, batch.rows_are_exact) == (300, False)


def test_trigger_that_found_nothing_is_no_micro_batch():
    idle = progress(1)
    idle.durationMs = {"latestOffset": 3, "triggerExecution": 3}

    assert [b.batch_id for b in micro_batches(query(progress(0), idle))] == [0]


def test_elapsed_time_is_from_first_start_to_last_end():
    batches = micro_batches(
        query(progress(0, second=1), progress(1, second=4, duration_ms=2500))
    )

    assert elapsed_s(batches) == pytest.approx(5.5)
    assert batches[0].started_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
