"""Counts per window of event time: hot keys, late rows, append and update mode."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.load.schedules import RateProfile
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import UpsertSink
from harness.spark.noise import HotKeys
from harness.spark.proof import check_offsets, check_rows, check_table, oracle, rows_of

ROWS_PER_S = 1000.0
WATERMARK_S = 5
WINDOW_S = 4
# After the pause come a few rows that close all windows before it.
PAUSE_S = 3600.0
LAST_ROWS = 200


def readings(rows_count, *, late_max_s=20.0, tails_count=1):
    """Half of the rows from 3 of 50 devices; a third late, some beyond all hope.

    *rows_count* includes one tail: rows after a pause. A second tail is a stream
    that got more rows after a restart.
    """
    length_s = (rows_count - LAST_ROWS) / ROWS_PER_S
    tail = ((PAUSE_S, 0.0, 0.0), (LAST_ROWS / ROWS_PER_S, ROWS_PER_S, ROWS_PER_S))
    pieces = ((length_s, ROWS_PER_S, ROWS_PER_S), *tail, *tail)
    return Feed(
        dataset=SensorReadings(devices=HotKeys(50, hot_count=3, hot_share=0.5)),
        seed=541,
        rows_count=rows_count + (tails_count - 1) * LAST_ROWS,
        schedule=RateProfile(pieces, "a load, a pause, a few rows"),
        late_share=0.3,
        late_max_s=late_max_s,
    )


def counts(_place, frame):
    """Workload under test."""
    from pyspark.sql import functions as f

    counted = (
        frame.withWatermark("event_time", f"{WATERMARK_S} seconds")
        .groupBy("device_id", f.window("event_time", f"{WINDOW_S} seconds"))
        .count()
    )
    return counted.select(
        "device_id", f.col("window.start").alias("starts_at"), "count"
    )


def appended(feed, *, batches_count, transform=counts):
    return Query(
        name="counts", feeds=(feed,), transform=transform, batches_count=batches_count
    )


def expected_counts(feed, *, batches_count, drop_late=True):
    """Return the closed windows, and how many rows came too late for theirs.

    The rule that the documentation gives: the watermark is the latest event time of
    the micro-batches before, less the delay; a row is late if its window ended at or
    before it. Spark filters by the watermark of the micro-batch before the last, as
    what closes windows must come after what still fills them.
    """
    rows = feed.table()
    per_batch = -(-feed.rows_count // batches_count)
    rows = rows.append_column("batch", pa.array(np.arange(len(rows)) // per_batch))
    sql = f"""
        WITH latest AS (
            SELECT batch, max(max(event_time)) OVER (ORDER BY batch
                ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS seen
            FROM rows GROUP BY batch),
        placed AS (
            SELECT device_id, seen, event_time,
                time_bucket(INTERVAL {WINDOW_S} SECONDS, event_time) AS starts_at
            FROM rows JOIN latest USING (batch)),
        judged AS (
            SELECT *, coalesce(starts_at + INTERVAL {WINDOW_S} SECONDS
                <= date_trunc('milliseconds', seen)
                    - INTERVAL {WATERMARK_S} SECONDS, false) AS late
            FROM placed)
        SELECT device_id, starts_at, count(*) AS count, late FROM judged
        WHERE starts_at + INTERVAL {WINDOW_S} SECONDS
            <= (SELECT max(event_time) FROM rows) - INTERVAL {WATERMARK_S} SECONDS
        GROUP BY device_id, starts_at, late
    """
    judged = oracle(sql, rows=rows)
    late_count = oracle(
        "SELECT coalesce(sum(count), 0)::BIGINT AS n FROM judged WHERE late",
        judged=judged,
    )["n"][0].as_py()
    kept = oracle(
        "SELECT device_id, starts_at, sum(count)::BIGINT AS count FROM judged "
        f"WHERE NOT late OR {not drop_late} GROUP BY ALL",
        judged=judged,
    )
    return kept, late_count


@pytest.mark.benchmark(group="stream-windowed-counts")
def test_each_closed_window_is_written_once_with_its_exact_count(
    lab, sized, record_stream
):
    """Append mode: what is written is final. Late rows are the ones the rule says."""
    batches_count = sized(full=10, smoke=5)
    # Later than two micro-batches are long, or the watermark never passes a row.
    feed = readings(
        sized(full=200_000, smoke=50_000), late_max_s=sized(full=60.0, smoke=20.0)
    )

    run = lab.run(appended(feed, batches_count=batches_count))

    batches = run.batches["counts"]
    check_offsets(batches, feed)
    expected, late_count = expected_counts(feed, batches_count=batches_count)
    proven = check_table(run.place.path(), expected)
    assert late_count > 0, "no row was late: nothing was shown"
    assert sum(b.rows_dropped_by_watermark for b in batches) > 0
    counted = sum(rows_of(run.place.path())["count"].to_pylist())
    open_rows = feed.rows_count - counted - late_count
    assert 0 <= open_rows <= LAST_ROWS, "rows are neither counted, late nor open"
    record_stream(run, details={"checksum": str(proven), "rows_late_count": late_count})


BEFORE_THE_PAUSE = f"""
    SELECT * FROM found WHERE starts_at < TIMESTAMPTZ '2026-01-01 00:00:00+00'
        + INTERVAL {int(PAUSE_S / 2)} SECONDS
"""
ALL_ROWS_COUNT = f"""
    SELECT device_id, time_bucket(INTERVAL {WINDOW_S} SECONDS, event_time) AS starts_at,
        count(*) AS count
    FROM rows GROUP BY ALL
"""


def test_killed_counts_lose_and_double_no_row(lab, sized):
    """Wherever it was killed, the counts of closed windows are those of all rows.

    The rows come late by less than the watermark allows, and the stream gets some
    more after its restart: see the trap below.
    """
    feed = readings(30_000, late_max_s=WATERMARK_S - 1)
    more = readings(30_000, late_max_s=WATERMARK_S - 1, tails_count=2)
    expected = oracle(BEFORE_THE_PAUSE, found=oracle(ALL_ROWS_COUNT, rows=feed.table()))

    for _, run in recoveries(
        lab,
        appended(feed, batches_count=4),
        count=sized(full=5, smoke=1),
        seed=542,
    ):
        lab.run(appended(more, batches_count=1), place=run.place)
        found = oracle(BEFORE_THE_PAUSE, found=rows_of(run.place.path()))
        check_rows(found, expected)


def test_batch_that_delta_skips_on_replay_leaves_the_watermark_behind(lab):
    """A trap of Spark 4.2 with Delta 4.4, held here so that its end is noticed.

    Killed between the table's commit and the checkpoint's, the micro-batch comes
    again, Delta knows it and skips it, and so Spark does not see its event times:
    the watermark stays. Windows close later, and rows that were late no longer are.
    """
    feed = readings(8_000, late_max_s=0.0)

    ((kill, run),) = recoveries(lab, appended(feed, batches_count=1), count=1, seed=543)

    assert (kill.begun, kill.done) == ((1,), (0,))
    assert rows_of(run.place.path()).num_rows == 0, "the windows were closed after all"
    more = readings(8_000, late_max_s=0.0, tails_count=2)
    lab.run(appended(more, batches_count=1), place=run.place)
    assert rows_of(run.place.path()).num_rows > 0


def test_update_mode_ends_with_the_same_counts(lab):
    """Each micro-batch corrects the counts of its windows in a table of the latest."""
    feed = readings(30_000)
    batches_count = 3

    def sink(place):
        from pyspark.sql.functions import lit

        place.create(
            "device_id BIGINT, starts_at TIMESTAMP, count BIGINT, batch BIGINT"
        )
        upsert = UpsertSink(
            target=place.table(),
            keys=("device_id", "starts_at"),
            sequence="batch",
            app_id="counts",
        )
        return lambda frame, n: upsert(frame.withColumn("batch", lit(n)), n)

    run = lab.run(
        Query(
            name="counts",
            feeds=(feed,),
            transform=counts,
            sink=sink,
            output_mode="update",
            batches_count=batches_count,
        )
    )

    expected, _ = expected_counts(feed, batches_count=batches_count)
    last_window = oracle("SELECT max(starts_at) AS t FROM e", e=expected)["t"][0]
    closed = oracle(
        "SELECT * EXCLUDE batch FROM found WHERE starts_at <= $last".replace(
            "$last", f"TIMESTAMPTZ '{last_window.as_py().isoformat()}'"
        ),
        found=rows_of(run.place.path()),
    )
    check_rows(closed, expected)


def test_rows_beyond_the_watermark_would_be_missed(lab):
    """The negative control: an oracle that counts late rows does not agree."""
    feed = readings(30_000)
    with_late, _ = expected_counts(feed, batches_count=5, drop_late=False)

    run = lab.run(appended(feed, batches_count=5))

    with pytest.raises(AssertionError, match="missing"):
        check_table(run.place.path(), with_late)
