"""The same row is sent again and again: it is kept once, and state does not grow."""

from __future__ import annotations

import pytest

from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_table, oracle

ONCE = "SELECT DISTINCT * FROM orders"
WATERMARK_S = 10
ROWS_PER_S = 1000
# A row may come again within this many rows, 5 s at most: inside the watermark.
DISTANCE = 4_000


def orders(rows_count):
    return Feed(
        dataset=Orders(),
        seed=531,
        rows_count=rows_count,
        duplicates_share=0.2,
        duplicates_distance=DISTANCE,
    )


def once(_place, frame):
    """Workload under test."""
    return frame.withWatermark(
        "event_time", f"{WATERMARK_S} seconds"
    ).dropDuplicatesWithinWatermark(["order_id"])


def deduplicated(feed, *, batches_count, transform=once):
    return Query(
        name="deduplicated",
        feeds=(feed,),
        transform=transform,
        batches_count=batches_count,
    )


@pytest.mark.benchmark(group="stream-deduplication")
def test_row_sent_again_is_kept_once(lab, sized, record_stream):
    """No order is lost, none is there twice, and old ones leave the state."""
    feed = orders(sized(full=400_000, smoke=60_000))
    query = deduplicated(feed, batches_count=sized(full=10, smoke=4))

    run = lab.run(query)

    batches = run.batches["deduplicated"]
    check_offsets(batches, feed)
    proven = check_table(run.place.path(), oracle(ONCE, orders=feed.table()))
    # State holds what the watermark keeps and what one batch brings, not all rows.
    per_batch = -(-feed.rows_count // query.batches_count)
    kept_at_most = 2 * (WATERMARK_S * ROWS_PER_S + per_batch)
    assert 0 < max(batch.state_rows for batch in batches) <= kept_at_most
    record_stream(run, details={"checksum": str(proven)})


def test_killed_stream_still_knows_what_it_has_seen(lab, sized):
    """State and table go back to the same micro-batch together."""
    feed = orders(12_000)
    expected = oracle(ONCE, orders=feed.table())

    for _, run in recoveries(
        lab,
        deduplicated(feed, batches_count=4),
        count=sized(full=5, smoke=1),
        seed=532,
    ):
        check_table(run.place.path(), expected)


def test_duplicates_within_a_batch_only_are_not_enough(lab):
    """The negative control: dropping them batch by batch leaves some."""
    feed = orders(4_000)

    def forgetful(place):
        def sink(frame, _batch_id):
            frame.dropDuplicates(["order_id"]).write.format("delta").mode(
                "append"
            ).save(place.path().as_uri())

        return sink

    run = lab.run(
        Query(name="forgetful", feeds=(feed,), sink=forgetful, batches_count=2)
    )

    with pytest.raises(AssertionError, match="not expected, or too many"):
        check_table(run.place.path(), oracle(ONCE, orders=feed.table()))
