"""Many streams on one cluster: each is complete, and what they get is measured."""

from __future__ import annotations

import pytest

from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_table


def streams(count, *, rows_count, batches_count):
    """Streams that differ in their seed and number, each with a table of its own."""
    return [
        Query(
            name=f"stream_{number:03d}",
            feeds=(
                Feed(
                    dataset=SensorReadings(stream_id=number),
                    seed=5800 + number,
                    rows_count=rows_count,
                ),
            ),
            into=f"stream_table_{number:03d}",
            batches_count=batches_count,
        )
        for number in range(1, count + 1)
    ]


@pytest.mark.benchmark(group="stream-many")
def test_each_of_many_streams_is_complete(lab, sized, record_stream):
    """Side by side in one session; throughput is what was written, not asked for."""
    queries = streams(
        sized(full=12, smoke=4),
        rows_count=sized(full=20_000, smoke=3_000),
        batches_count=sized(full=4, smoke=2),
    )

    run = lab.run(*queries)

    for query in queries:
        check_offsets(run.batches[query.name], *query.feeds)
        check_table(run.place.path(query.into), query.feeds[0].table())
    record_stream(run, details={"streams_count": len(queries)})


def test_one_kill_hits_all_streams_and_none_is_harmed(lab, sized):
    """They die in the middle of different micro-batches and go on from there."""
    queries = streams(sized(full=3, smoke=2), rows_count=3_000, batches_count=3)

    for _, run in recoveries(lab, *queries, count=sized(full=4, smoke=1), seed=581):
        for query in queries:
            check_table(run.place.path(query.into), query.feeds[0].table())


def test_stream_that_read_its_neighbours_feed_is_found(lab):
    """The negative control: every table fed by the last stream (late binding)."""
    queries = streams(2, rows_count=500, batches_count=1)

    run = lab.run(
        *(
            Query(
                name=query.name,
                feeds=queries[-1].feeds,
                into=query.into,
                batches_count=1,
            )
            for query in queries
        )
    )

    with pytest.raises(AssertionError, match="missing"):
        check_table(run.place.path(queries[0].into), queries[0].feeds[0].table())
