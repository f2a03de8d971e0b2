"""The listener on real streams."""

from __future__ import annotations

import threading

import pytest

from harness.spark.observing.listener import StreamObserver, observing
from harness.spark.observing.recorder import Recorder
from harness.spark.stepper import stepping

pytestmark = pytest.mark.spark

SCHEMA = "id INT"


def run(spark, folder, *, batches=3, sink=None):
    with stepping(spark, folder, table="numbers", schema=SCHEMA, sink=sink) as stream:
        for batch in range(batches):
            stream.add({"id": batch}, {"id": batch + 100})
        stream.process_all()
        return stream.batches


def test_table_holds_what_each_stream_did(spark, tmp_path):
    table = f"delta.`{tmp_path / 'events'}`"

    with observing(spark, table=table, flush_s=0.2) as observer:
        batches = run(spark, tmp_path)

    rows = spark.sql(f"SELECT * FROM {table} ORDER BY collection_time").collect()
    progress = [row for row in rows if row["event_type"] == "progress"]
    assert rows[0]["event_type"] == "started"
    assert rows[0]["stream_name"] == "numbers_stream"
    assert rows[-1]["event_type"] == "terminated"
    assert not rows[-1]["is_active"]
    with_rows = [row for row in progress if row["num_input_rows"]]
    assert [row["batch_id"] for row in with_rows] == [b.batch_id for b in batches]
    assert sum(row["num_input_rows"] for row in with_rows) == 6
    assert '"batchId"' in progress[0]["raw_progress_json"]
    delivery = observer.summary()["delivery"]
    assert delivery["offered"] == delivery["written"] == len(rows)
    assert observer.summary()["rows_by_stream"] == {"numbers_stream": 6}


def test_stuck_table_does_not_hold_up_a_stream(spark, tmp_path):
    go_on, written = threading.Event(), []

    def stuck(batch):
        assert go_on.wait(60)
        written.extend(batch)

    recorder = Recorder(stuck, flush_s=0.01)
    observer = StreamObserver(recorder)
    spark.streams.addListener(observer)
    try:
        batches = run(spark, tmp_path)  # would hang here, if the listener waited
        assert observer.wait_for_ends(set(), timeout_s=30)
    finally:
        go_on.set()
        spark.streams.removeListener(observer)
        delivery = recorder.close()

    assert len(batches) == 3
    assert delivery.pending == delivery.dropped == 0
    assert len([event for event in written if event.event_type == "progress"]) >= 3


def test_table_that_is_gone_disables_the_recorder_and_no_stream(
    spark, tmp_path, caplog
):
    spark.sql("CREATE SCHEMA IF NOT EXISTS observed")
    table = "spark_catalog.observed.events"

    with observing(spark, table=table, flush_s=0.01) as observer:
        spark.sql(f"DROP TABLE {table}")
        batches = run(spark, tmp_path)
    spark.sql("DROP SCHEMA observed CASCADE")

    delivery = observer.summary()["delivery"]
    assert len(batches) == 3
    assert delivery["disabled"]
    assert delivery["failures"] == 10
    assert delivery["dropped"] == delivery["offered"] > 0
    assert "recording of stream events is off" in caplog.text


def test_stream_that_fails_is_told_at_once(spark, tmp_path):
    told = []
    observer = StreamObserver(on_alert=told.append)
    spark.streams.addListener(observer)

    def broken(frame, batch_id):
        del frame, batch_id
        raise ValueError("no such customer")

    try:
        with pytest.raises(Exception, match="no such customer"):
            run(spark, tmp_path, sink=broken)
        assert observer.wait_for_ends(set(), timeout_s=30)
    finally:
        spark.streams.removeListener(observer)

    assert [alert.kind for alert in told] == ["failed"]
    # Spark tells the end of a stream by its id only.
    assert told[0].stream == "numbers_stream"
    assert observer.summary()["errors_count"] == 0
