from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness import SparkError
from harness.spark.stepper import stepping

pytestmark = pytest.mark.spark


def counts_per_minute(events):
    from pyspark.sql.functions import window

    return (
        events.withWatermark("event_time", "30 seconds")
        .groupBy(window("event_time", "1 minute"))
        .count()
    )


def test_event_of_a_closed_window_is_dropped_and_counted(spark, tmp_path):
    """The example of the style guide: watermark and dropped rows are readable."""
    with stepping(spark, tmp_path, counts_per_minute, table="late_data") as stream:
        stream.add("2026-01-01T12:00:10Z", "2026-01-01T12:02:00Z")
        stream.process_all()
        stream.add("2026-01-01T12:00:20Z")  # its window closed at 12:01:00
        stream.process_all()

        assert stream.watermark == datetime(2026, 1, 1, 12, 1, 30, tzinfo=UTC)
        assert stream.rows_dropped_by_watermark == 1


def test_each_add_is_one_micro_batch_in_the_order_of_the_calls(spark, tmp_path):
    with stepping(spark, tmp_path, table="order", schema="n BIGINT") as stream:
        for n in range(4):
            stream.add(*({"n": n} for _ in range(n + 1)))
        stream.process_all()

        assert [b.batch_id for b in stream.batches] == [0, 1, 2, 3]
        assert [b.rows_count for b in stream.batches] == [1, 2, 3, 4]
        assert sorted(row["n"] for row in stream.rows()) == sorted(
            n for n in range(4) for _ in range(n + 1)
        )


def test_restart_goes_on_where_the_stream_stopped(spark, tmp_path):
    with stepping(spark, tmp_path, table="restarted", schema="n BIGINT") as stream:
        stream.add({"n": 1})
        stream.process_all()
        stream.start()
        stream.add({"n": 2})
        stream.process_all()

        assert [b.batch_id for b in stream.batches] == [0, 1]
        assert sorted(row["n"] for row in stream.rows()) == [1, 2]


def test_failure_shows_its_cause_and_how_far_the_stream_got(spark, tmp_path):
    def fail_on_second(_frame, batch_id):
        if batch_id == 1:
            raise ValueError("a bad second batch")

    with stepping(
        spark, tmp_path, table="failing", schema="n BIGINT", sink=fail_on_second
    ) as stream:
        stream.add({"n": 1})
        stream.add({"n": 2})

        with pytest.raises(SparkError) as caught:
            stream.process_all()

    message = str(caught.value)
    assert "stream 'failing' failed" in message
    assert "a bad second batch" in message
    assert "2 files added, 1 micro-batches completed" in message


def test_failed_assertion_shows_how_far_the_stream_got(spark, tmp_path):
    def fail():
        with stepping(spark, tmp_path, table="asserted", schema="n BIGINT") as stream:
            stream.add({"n": 1})
            stream.process_all()
            raise AssertionError

    with pytest.raises(AssertionError) as caught:
        fail()

    assert "1 files added, 1 micro-batches completed" in caught.value.__notes__[0]
