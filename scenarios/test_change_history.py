"""Change data capture into a history of versions (SCD type 2), out of order."""

from __future__ import annotations

import pytest

from harness.spark.datasets import Changes
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import HistorySink, UpsertSink
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_offsets, check_table, oracle, rows_of

COLUMNS = (
    "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, operation STRING, "
    "city STRING, balance BIGINT, valid_to BIGINT"
)
# Every change is a version; the next one of the same customer ends it.
HISTORY = """
    SELECT *, lead(sequence) OVER (PARTITION BY customer_id ORDER BY sequence)
        AS valid_to
    FROM (SELECT DISTINCT * FROM changes)
"""
# What a report that reads the history must never see.
OVERLAPS = """
    SELECT * FROM history AS a JOIN history AS b USING (customer_id)
    WHERE a.sequence < b.sequence AND (a.valid_to IS NULL OR a.valid_to > b.sequence)
"""
CURRENT = """
    SELECT customer_id, count(*) AS open_versions FROM history
    WHERE valid_to IS NULL GROUP BY customer_id HAVING open_versions <> 1
"""


def changes(rows_count, *, keys_count, seed=521):
    """Inserts, updates and deletes; blocks of two micro-batches are shuffled."""
    return Feed(
        dataset=Changes(customers=UniformKeys(keys_count), deletes_share=0.2),
        seed=seed,
        rows_count=rows_count,
        disorder_rows=rows_count // 2,
        duplicates_share=0.05,
    )


def history_of(feed, *, batches_count, sink_class=HistorySink):
    def sink(place):
        return sink_class(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id="history",
        )

    return Query(name="history", feeds=(feed,), sink=sink, batches_count=batches_count)


def empty_table(place):
    place.create(COLUMNS)


@pytest.mark.benchmark(group="stream-change-history")
def test_history_has_every_version_between_its_neighbours(lab, sized, record_stream):
    """No gap, no overlap, one open version for each key, whatever the order was."""
    feed = changes(
        sized(full=60_000, smoke=3_000), keys_count=sized(full=20_000, smoke=800)
    )
    place = lab.place()
    empty_table(place)

    run = lab.run(history_of(feed, batches_count=sized(full=6, smoke=3)), place=place)

    check_offsets(run.batches["history"], feed)
    proven = check_table(place.path(), oracle(HISTORY, changes=feed.table()))
    history = rows_of(place.path())
    assert oracle(OVERLAPS, history=history).num_rows == 0
    assert oracle(CURRENT, history=history).num_rows == 0
    record_stream(run, details={"checksum": str(proven)})


def test_killed_history_goes_on_unharmed(lab, sized):
    """A batch that comes again finds its versions there and changes nothing."""
    feed = changes(2_000, keys_count=500)
    expected = oracle(HISTORY, changes=feed.table())

    for _, run in recoveries(
        lab,
        history_of(feed, batches_count=sized(full=4, smoke=2)),
        prepare=empty_table,
        count=sized(full=5, smoke=1),
        seed=522,
    ):
        check_table(run.place.path(), expected)


def test_deleted_customer_stays_deleted_when_an_older_change_comes_late(lab):
    """Of the latest state, too: the tombstone has the highest sequence, and wins."""
    feed = changes(2_000, keys_count=300)

    def sink(place):
        return UpsertSink(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id="latest",
        )

    place = lab.place()
    place.create(COLUMNS.removesuffix(", valid_to BIGINT"))
    lab.run(
        Query(name="latest", feeds=(feed,), sink=sink, batches_count=2), place=place
    )

    alive = "SELECT customer_id, balance FROM latest WHERE operation <> 'delete'"
    by_sequence = f"""
        WITH latest AS (
            SELECT * FROM changes QUALIFY row_number() OVER (
                PARTITION BY customer_id ORDER BY sequence DESC) = 1)
        {alive}
    """
    expected = oracle(by_sequence, changes=feed.table())
    found = oracle(alive, latest=rows_of(place.path()))
    assert found.sort_by("customer_id") == expected.sort_by("customer_id")
    assert 0 < expected.num_rows < 300, "some customers must have been deleted"


class ArrivalOrder(HistorySink):
    """A planted defect: a version ends when the next one arrives, not is made."""

    def source(self, frame):
        from pyspark.sql.functions import lit

        return frame.distinct().withColumn("valid_to", lit(None).cast("bigint"))


def test_history_in_the_order_of_arrival_is_found_out(lab):
    """The negative control."""
    feed = changes(1_000, keys_count=100)
    place = lab.place()
    empty_table(place)

    lab.run(history_of(feed, batches_count=2, sink_class=ArrivalOrder), place=place)

    assert oracle(OVERLAPS, history=rows_of(place.path())).num_rows > 0
    with pytest.raises(AssertionError, match="not expected"):
        check_table(place.path(), oracle(HISTORY, changes=feed.table()))
