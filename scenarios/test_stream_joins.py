"""Clicks meet the impressions they belong to: two streams joined in event time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from harness.load.schedules import RateProfile
from harness.spark.datasets import Clicks, Impressions
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_rows, check_table, oracle, rows_of

IMPRESSIONS_PER_S = 1000.0
IMPRESSIONS_PER_CLICK = 5
WATERMARK_S = 4
# A click counts within this time of its impression; some come later than that.
INTERVAL_S = 6
CLICK_DELAY_MAX_S = 8.0
PAUSE_S = 3600.0
LAST_CLICKS = 20


def feed_of(
    dataset,
    *,
    rows_count,
    last_rows,
    rate_per_s,
    seed,
    late_share,
    late_max_s,
    tails_count,
):
    """A load, then a pause, then a few rows that close what was open before it."""
    tail = ((PAUSE_S, 0.0, 0.0), (last_rows / rate_per_s, rate_per_s, rate_per_s))
    length_s = (rows_count - last_rows) / rate_per_s
    pieces = ((length_s, rate_per_s, rate_per_s), *tail, *tail)
    return Feed(
        dataset=dataset,
        seed=seed,
        rows_count=rows_count + (tails_count - 1) * last_rows,
        schedule=RateProfile(pieces, "a load, a pause, a few rows"),
        late_share=late_share,
        late_max_s=late_max_s,
    )


def advertising(clicks_count, *, late_share=0.0, late_max_s=15.0, tails_count=1):
    n = IMPRESSIONS_PER_CLICK
    impressions = feed_of(
        Impressions(),
        rows_count=clicks_count * n,
        last_rows=LAST_CLICKS * n,
        rate_per_s=IMPRESSIONS_PER_S,
        seed=551,
        late_share=late_share,
        late_max_s=late_max_s,
        tails_count=tails_count,
    )
    clicks = feed_of(
        Clicks(impressions_per_click=n, delay_max_s=CLICK_DELAY_MAX_S),
        rows_count=clicks_count,
        last_rows=LAST_CLICKS,
        rate_per_s=IMPRESSIONS_PER_S / n,
        seed=552,
        late_share=late_share,
        late_max_s=late_max_s,
        tails_count=tails_count,
    )
    return impressions, clicks


def joined(kind):
    def transform(_place, impressions, clicks):
        """Workload under test."""
        from pyspark.sql.functions import expr

        shown = impressions.withWatermark("shown_at", f"{WATERMARK_S} seconds")
        clicked = clicks.withWatermark(
            "clicked_at", f"{WATERMARK_S} seconds"
        ).withColumnRenamed("impression_id", "clicked_id")
        condition = expr(
            "impression_id = clicked_id AND clicked_at >= shown_at AND "
            f"clicked_at <= shown_at + INTERVAL {INTERVAL_S} SECONDS"
        )
        return shown.join(clicked, condition, kind).select(
            "impression_id", "ad_id", "shown_at", "click_id", "clicked_at"
        )

    return transform


def query_of(feeds, kind, *, batches_count, conf=None):
    return Query(
        name="joined",
        feeds=feeds,
        transform=joined(kind),
        batches_count=batches_count,
        conf=conf or {},
    )


def expected_rows(impressions, clicks, kind, *, batches_count, drop_late=True):
    """Return the rows of the join, late rows of either side left out by the rule.

    A row is late if its time is not after the watermark: the latest event time of
    the micro-batches before the last one, less the delay, of the slower stream.
    """

    def numbered(feed):
        rows = feed.table()
        per_batch = -(-feed.rows_count // batches_count)
        return rows.append_column("batch", pa.array(np.arange(len(rows)) // per_batch))

    late = "false" if not drop_late else "at <= seen - INTERVAL {delay} SECONDS"
    sql = f"""
        WITH maxima AS (
            SELECT batch,
                max(i) OVER w AS i, max(c) OVER w AS c
            FROM (SELECT batch, max(i) AS i, max(c) AS c FROM (
                SELECT batch, shown_at AS i, NULL AS c FROM impressions UNION ALL
                SELECT batch, NULL, clicked_at FROM clicks) GROUP BY batch)
            WINDOW w AS (ORDER BY batch
                ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)),
        marks AS (
            SELECT batch, date_trunc('milliseconds', least(i, c)) AS seen FROM maxima),
        kept_i AS (
            SELECT impressions.* FROM impressions JOIN marks USING (batch)
            WHERE NOT coalesce({late.replace("at <=", "shown_at <=")}, false)),
        kept_c AS (
            SELECT clicks.* FROM clicks JOIN marks USING (batch)
            WHERE NOT coalesce({late.replace("at <=", "clicked_at <=")}, false))
        SELECT i.impression_id, ad_id, shown_at, click_id, clicked_at
        FROM kept_i AS i {kind} JOIN kept_c AS c
        ON i.impression_id = c.impression_id AND clicked_at >= shown_at
            AND clicked_at <= shown_at + INTERVAL {INTERVAL_S} SECONDS
        WHERE click_id IS NOT NULL OR shown_at < (
            SELECT least(max(shown_at), (SELECT max(clicked_at) FROM clicks))
                - INTERVAL {WATERMARK_S + INTERVAL_S} SECONDS FROM impressions)
    """.replace("{delay}", str(WATERMARK_S))
    return oracle(sql, impressions=numbered(impressions), clicks=numbered(clicks))


@pytest.mark.benchmark(group="stream-join-inner")
@pytest.mark.parametrize("store", ["memory", "rocksdb"], ids="store={}".format)
def test_each_click_meets_its_impression_once(lab, sized, record_stream, store):
    """Inner join; what can no longer meet leaves the state, in either store."""
    batches_count = sized(full=8, smoke=3)
    feeds = advertising(sized(full=40_000, smoke=6_000))
    provider = (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    )
    conf = {"spark.sql.streaming.stateStore.providerClass": provider}

    run = lab.run(
        query_of(
            feeds,
            "inner",
            batches_count=batches_count,
            conf=conf if store == "rocksdb" else None,
        )
    )

    batches = run.batches["joined"]
    check_offsets(batches, *feeds)
    expected = expected_rows(*feeds, "INNER", batches_count=batches_count)
    proven = check_table(run.place.path(), expected)
    sent = sum(feed.rows_count for feed in feeds)
    # In the end it holds the rows after the pause, and no others.
    assert batches[-1].state_rows <= LAST_CLICKS * (IMPRESSIONS_PER_CLICK + 1)
    assert max(batch.state_rows for batch in batches) < sent
    record_stream(run, details={"checksum": str(proven)})


@pytest.mark.benchmark(group="stream-join-outer")
def test_each_impression_is_there_once_matched_or_not(lab, sized, record_stream):
    """Left outer join with late rows: a null only where no click can come any more."""
    batches_count = sized(full=8, smoke=5)
    # Later than two micro-batches are long, or the watermark never passes a row.
    feeds = advertising(
        sized(full=30_000, smoke=8_000),
        late_share=0.3,
        late_max_s=sized(full=60.0, smoke=15.0),
    )

    run = lab.run(query_of(feeds, "left_outer", batches_count=batches_count))

    check_offsets(run.batches["joined"], *feeds)
    expected = expected_rows(*feeds, "LEFT", batches_count=batches_count)
    proven = check_table(run.place.path(), expected)
    all_kept = expected_rows(
        *feeds, "LEFT", batches_count=batches_count, drop_late=False
    )
    late_count = all_kept.num_rows - expected.num_rows
    assert late_count > 0, "no impression was late: nothing was shown"
    record_stream(
        run, details={"checksum": str(proven), "impressions_late_count": late_count}
    )


BEFORE_THE_PAUSE = f"""
    SELECT * FROM found WHERE shown_at < TIMESTAMPTZ '2026-01-01 00:00:00+00'
        + INTERVAL {int(PAUSE_S / 2)} SECONDS
"""


def test_killed_join_repeats_and_loses_no_pair(lab, sized):
    """The state of both sides goes back with the offsets.

    The stream gets some more rows after its restart: a batch that Delta skips on
    replay leaves the watermark behind, and the nulls wait for the next one.
    """
    feeds = advertising(2_000)
    more = advertising(2_000, tails_count=2)
    expected = oracle(
        BEFORE_THE_PAUSE, found=expected_rows(*feeds, "LEFT", batches_count=4)
    )

    for _, run in recoveries(
        lab,
        query_of(feeds, "left_outer", batches_count=4),
        count=sized(full=5, smoke=1),
        seed=553,
    ):
        lab.run(query_of(more, "left_outer", batches_count=1), place=run.place)
        found = oracle(BEFORE_THE_PAUSE, found=rows_of(run.place.path()))
        check_rows(found, expected)


def test_filter_on_the_right_side_turns_an_outer_join_into_an_inner_one(lab):
    """The negative control: a defect often seen, and found out by the same check."""
    feeds = advertising(1_000)

    def filtered(place, impressions, clicks):
        pairs = joined("left_outer")(place, impressions, clicks)
        return pairs.where("click_id >= 0")

    run = lab.run(
        Query(name="joined", feeds=feeds, transform=filtered, batches_count=2)
    )

    with pytest.raises(AssertionError, match="missing"):
        check_table(run.place.path(), expected_rows(*feeds, "LEFT", batches_count=2))
