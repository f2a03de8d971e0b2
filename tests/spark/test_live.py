"""What a watcher is told of a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from harness.spark.live import live_streams, of

START = datetime(2026, 1, 1, tzinfo=UTC)


def progress(**more):
    return SimpleNamespace(
        **{
            "batchId": 7,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "durationMs": {"addBatch": 300, "triggerExecution": 500},
            "eventTime": {},
            "stateOperators": [],
            "numInputRows": 100,
            "inputRowsPerSecond": 50.0,
            "processedRowsPerSecond": 200.0,
            "sources": [
                SimpleNamespace(startOffset="0", endOffset="100", latestOffset="130")
            ],
            **more,
        }
    )


def test_a_stream_says_rate_duration_and_backlog():
    found = of(progress(), "orders", now=START)

    assert (found.name, found.batch_id, found.batch_duration_ms) == ("orders", 7, 500)
    assert (found.input_rows_per_s, found.processed_rows_per_s) == (50, 200)
    assert found.backlog_rows == 30


@pytest.mark.parametrize(
    ("watermark", "lag_s"),
    [
        ("2025-12-31T23:59:30.000Z", 40.0),
        # Before the first event Spark's watermark is the epoch: no lag of 56 years.
        ("1970-01-01T00:00:00.000Z", None),
        (None, None),
    ],
)
def test_watermark_lag_is_counted_from_now(watermark, lag_s):
    event_time = {"watermark": watermark} if watermark else {}
    now = START + timedelta(seconds=10)

    found = of(progress(eventTime=event_time), "orders", now=now)

    assert found.watermark_lag_s == lag_s


@pytest.mark.parametrize(("clock_ahead_s", "lag_s"), [(30.0, 10.0), (None, None)])
def test_watermark_lag_is_on_the_clock_of_the_events(clock_ahead_s, lag_s):
    """Of events that were all there, as in a replay, there is none."""
    event_time = {"watermark": "2025-12-31T23:59:30.000Z"}

    found = of(
        progress(eventTime=event_time),
        "orders",
        now=START + timedelta(seconds=10),
        clock_ahead_s=clock_ahead_s,
    )

    assert found.watermark_lag_s == lag_s


def test_a_rate_that_is_no_number_is_left_out():
    rates = {"inputRowsPerSecond": float("inf"), "processedRowsPerSecond": float("nan")}

    found = of(progress(**rates), "orders", now=START)

    assert found.input_rows_per_s is found.processed_rows_per_s is None


def test_a_trigger_that_found_nothing_is_an_idle_stream():
    found = of(progress(durationMs={"triggerExecution": 5}), "orders", now=START)

    assert (found.is_active, found.input_rows_per_s) == (True, 0)


@pytest.mark.spark
def test_a_running_stream_of_a_real_session_is_listed(spark, tmp_path):
    rows = spark.readStream.format("rate").option("rowsPerSecond", 50).load()
    query = (
        rows.writeStream.format("noop")
        .queryName("watched")
        .option("checkpointLocation", str(tmp_path))
        .trigger(processingTime="200 milliseconds")
        .start()
    )
    try:
        query.processAllAvailable()
        (found,) = [
            s for s in live_streams(spark, now=datetime.now(UTC)) if s.name == "watched"
        ]
    finally:
        query.stop()

    assert found.is_active
    assert [s.name for s in live_streams(spark, now=START)].count("watched") == 0
