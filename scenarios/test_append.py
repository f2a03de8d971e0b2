"""Rows appended to a Delta table: each is there once, whatever dies in between."""

from __future__ import annotations

import pytest

from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_rows, check_table, oracle, rows_of


def ingest(rows_count, *, batches_count):
    feed = Feed(
        dataset=SensorReadings(),
        seed=501,
        rows_count=rows_count,
        late_share=0.1,
        late_max_s=30,
        duplicates_share=0.02,
    )
    return Query(name="ingest", feeds=(feed,), batches_count=batches_count)


@pytest.mark.benchmark(group="stream-append")
def test_every_row_is_in_the_table_once(lab, sized, record_stream):
    """Bronze ingest: what the table holds is what was sent, row for row."""
    query = ingest(
        sized(full=2_000_000, smoke=20_000), batches_count=sized(full=10, smoke=4)
    )

    run = lab.run(query)

    check_offsets(run.batches["ingest"], *query.feeds)
    proven = check_table(run.place.path(), query.feeds[0].table())
    record_stream(run, details={"checksum": str(proven)})


def test_killed_stream_goes_on_without_loss_or_repetition(lab, sized):
    """Killed anywhere, and between the table's commit and the checkpoint's."""
    query = ingest(20_000, batches_count=4)
    expected = query.feeds[0].table()

    for _, run in recoveries(lab, query, count=sized(full=8, smoke=2), seed=502):
        check_table(run.place.path(), expected)


def test_lost_and_doubled_rows_are_found(lab):
    """The negative control: the same check, seen to fail by one row."""
    query = ingest(4_000, batches_count=1)
    run = lab.run(query)
    expected, found = query.feeds[0].table(), rows_of(run.place.path())
    lost = oracle("SELECT * FROM found ORDER BY ALL LIMIT 3999", found=found)
    doubled = oracle("FROM lost UNION ALL (FROM lost ORDER BY ALL LIMIT 1)", lost=lost)

    check_rows(found, expected)
    with pytest.raises(AssertionError, match="1 missing"):
        check_rows(lost, expected)
    with pytest.raises(AssertionError, match="1 not expected"):
        check_rows(doubled, expected)
