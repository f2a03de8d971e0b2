"""Sessions of devices: rows closer than a gap belong together, in two ways."""

from __future__ import annotations

import pytest

from harness.load.schedules import RateProfile
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.noise import ZipfKeys
from harness.spark.proof import check_rows, oracle, rows_of

ROWS_PER_S = 200.0
GAP_S = 2
WATERMARK_S = 3
PAUSE_S = 3600.0
LAST_ROWS = 40
US_PER_S = 1_000_000
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
# A session ends a gap after its last row, and a row at that very moment is still in it:
# so it is in Spark's, whose documentation says only "within the gap".
BEGINS = "event_time > lag(event_time)"
SESSIONS = f"""
    WITH steps AS (
        SELECT device_id, event_time, {BEGINS} OVER w
            + INTERVAL {GAP_S} SECONDS AS begins
        FROM rows WINDOW w AS (PARTITION BY device_id ORDER BY event_time)),
    numbered AS (
        SELECT *, sum(coalesce(begins, true)::INT) OVER (
            PARTITION BY device_id ORDER BY event_time
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number
        FROM steps)
    SELECT device_id, min(event_time) AS starts_at,
        max(event_time) + INTERVAL {GAP_S} SECONDS AS ends_at, count(*) AS count
    FROM numbered GROUP BY device_id, number
"""
BEFORE_THE_PAUSE = f"""
    SELECT * FROM found WHERE starts_at < TIMESTAMPTZ '2026-01-01 00:00:00+00'
        + INTERVAL {int(PAUSE_S / 2)} SECONDS
"""


def readings(rows_count, *, tails_count=1):
    """Skewed devices, so that sessions are long and short; rows out of order."""
    length_s = (rows_count - LAST_ROWS) / ROWS_PER_S
    tail = ((PAUSE_S, 0.0, 0.0), (LAST_ROWS / ROWS_PER_S, ROWS_PER_S, ROWS_PER_S))
    pieces = ((length_s, ROWS_PER_S, ROWS_PER_S), *tail, *tail)
    return Feed(
        dataset=SensorReadings(devices=ZipfKeys(200, exponent=1.1)),
        seed=569,
        rows_count=rows_count + (tails_count - 1) * LAST_ROWS,
        schedule=RateProfile(pieces, "a load, a pause, a few rows"),
        late_share=0.3,
        late_max_s=WATERMARK_S - 0.5,
    )


def by_session_window(_place, frame):
    """Workload under test: Spark's own sessions."""
    from pyspark.sql import functions as f

    counted = (
        frame.withWatermark("event_time", f"{WATERMARK_S} seconds")
        .groupBy("device_id", f.session_window("event_time", f"{GAP_S} seconds"))
        .count()
    )
    return counted.select(
        "device_id",
        f.col("session_window.start").alias("starts_at"),
        f.col("session_window.end").alias("ends_at"),
        "count",
    )


def by_own_state(_place, frame):
    """Workload under test: the same with transformWithState, a processor of ours."""
    from pyspark.sql import functions as f

    found = (
        frame.withWatermark("event_time", f"{WATERMARK_S} seconds")
        .select("device_id", "event_time", f.unix_micros("event_time").alias("at_us"))
        .groupBy("device_id")
        .transformWithState(
            statefulProcessor=session_processor(),
            outputStructType="device_id BIGINT, first_us BIGINT, last_us BIGINT, "
            "count BIGINT",
            outputMode="Append",
            timeMode="EventTime",
        )
    )
    return found.select(
        "device_id",
        f.timestamp_micros("first_us").alias("starts_at"),
        f.timestamp_micros(f.col("last_us") + GAP_S * US_PER_S).alias("ends_at"),
        "count",
    )


def merged_spans(spans, gap_us):
    """Return spans (first, last, count), those closer than the gap made one."""
    merged = []
    for first, last, count in sorted(spans):
        if merged and first <= merged[-1][1] + gap_us:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], last), before[2] + count)
        else:
            merged.append((first, last, count))
    return merged


def session_processor():
    """Return a processor that keeps the open sessions of each device.

    Defined here, so that it travels to the workers by value: they cannot import a
    scenario.
    """
    from pyspark.sql import Row
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

    merge, gap_us = merged_spans, GAP_S * US_PER_S

    class Sessions(StatefulProcessor):
        def init(self, handle):
            self._handle = handle
            self._open = handle.getListState(
                "open", "first_us BIGINT, last_us BIGINT, count BIGINT"
            )

        def handleInputRows(self, key, rows, timerValues):  # noqa: ARG002, N802, N803
            spans = [tuple(span) for span in self._open.get()]
            merged = merge([*spans, *((r.at_us, r.at_us, 1) for r in rows)], gap_us)
            self._open.put([Row(*span) for span in merged])
            for timer in list(self._handle.listTimers()):
                self._handle.deleteTimer(timer)
            for _, last, _ in merged:
                self._handle.registerTimer((last + gap_us) // 1000 + 1)
            return iter([])

        def handleExpiredTimer(self, key, timerValues, expiredTimerInfo):  # noqa: ARG002, N802, N803
            now_us = timerValues.getCurrentWatermarkInMs() * 1000
            spans = [tuple(span) for span in self._open.get()]
            left = [span for span in spans if span[1] + gap_us >= now_us]
            if left:
                self._open.put([Row(*span) for span in left])
            else:
                self._open.clear()
            for first, last, count in spans:
                if last + gap_us < now_us:
                    yield Row(
                        device_id=key[0], first_us=first, last_us=last, count=count
                    )

        def close(self):
            pass

    return Sessions()


WAYS = {
    "session_window": (by_session_window, {}),
    "own_state": (
        by_own_state,
        {"spark.sql.streaming.stateStore.providerClass": ROCKSDB},
    ),
}


def sessions(way, feed, *, batches_count):
    transform, conf = WAYS[way]
    return Query(
        name="sessions",
        feeds=(feed,),
        transform=transform,
        batches_count=batches_count,
        conf=conf,
    )


@pytest.mark.benchmark(group="stream-sessions")
@pytest.mark.parametrize("way", WAYS, ids="way={}".format)
def test_sessions_are_the_same_in_each_way(lab, sized, record_stream, way):
    """Both must find the sessions that SQL finds in all rows, and forget them then."""
    feed = readings(sized(full=8_000, smoke=2_000))

    run = lab.run(sessions(way, feed, batches_count=sized(full=8, smoke=3)))

    sent = feed.table()
    expected = oracle(SESSIONS, rows=sent)
    # Some row comes at the very end of a gap: it tells the two readings of it apart.
    begun_by_it = SESSIONS.replace(BEGINS, BEGINS.replace(">", ">="))
    assert oracle(begun_by_it, rows=sent).num_rows > expected.num_rows
    found = rows_of(run.place.path())
    proven = check_rows(
        oracle(BEFORE_THE_PAUSE, found=found), oracle(BEFORE_THE_PAUSE, found=expected)
    )
    last = run.batches["sessions"][-1]
    assert last.state_rows < max(b.state_rows for b in run.batches["sessions"])
    record_stream(run, details={"checksum": str(proven)})


def test_killed_sessions_lose_no_row(lab, sized):
    """Merging goes on where it was; what comes again is not counted again."""
    feed, more = readings(2_000), readings(2_000, tails_count=2)
    expected = oracle(BEFORE_THE_PAUSE, found=oracle(SESSIONS, rows=feed.table()))

    for _, run in recoveries(
        lab,
        sessions("session_window", feed, batches_count=3),
        count=sized(full=4, smoke=1),
        seed=562,
    ):
        lab.run(sessions("session_window", more, batches_count=1), place=run.place)
        found = oracle(BEFORE_THE_PAUSE, found=rows_of(run.place.path()))
        check_rows(found, expected)


def test_another_gap_gives_other_sessions(lab):
    """The negative control: the check tells a gap of 2 s from one of 3 s."""
    feed = readings(1_000)

    run = lab.run(sessions("session_window", feed, batches_count=1))

    other = oracle(
        SESSIONS.replace(f"{GAP_S} SECONDS", f"{GAP_S + 1} SECONDS"), rows=feed.table()
    )
    with pytest.raises(AssertionError):
        check_rows(rows_of(run.place.path()), other)
