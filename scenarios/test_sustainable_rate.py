"""The highest rate that an append to Delta keeps up with, found by bisection."""

from __future__ import annotations

import pytest

from harness.load.schedules import constant_rate
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_table
from harness.spark.stream_record import wait_figures, waits_s
from harness.spark.sustain import HEADROOM, NO_LOG_CHECKPOINTS
from harness.spark.sustainable import (
    find_sustainable_rate,
    generator_ceiling_per_s,
    probe_stream,
)

# What one micro-batch may take: with its duration, the capacity of the stream.
ROWS_PER_BATCH = 1_000
MEASURED_BATCHES = 4
# Where the search begins, as a share of the rate in a closed loop.
START_SHARE = 0.75


def ingest(rate_per_s, duration_s):
    profile = constant_rate(rate_per_s=rate_per_s, duration_s=duration_s)
    rows_count = int(profile.expected_count)
    feed = Feed(dataset=Orders(), seed=611, rows_count=rows_count, schedule=profile)
    return Query(
        name="ingest",
        feeds=(feed,),
        batches_count=max(1, -(-rows_count // ROWS_PER_BATCH)),
        conf=NO_LOG_CHECKPOINTS,
    )


@pytest.fixture
def batch_s(lab, sized):
    """Measured, closed loop: how long a full micro-batch takes, once compiled."""
    warmup_count = sized(full=12, smoke=3)
    query = ingest(ROWS_PER_BATCH, warmup_count + MEASURED_BATCHES)
    batches = lab.run(query, metered=False).batches["ingest"][warmup_count:]
    seconds = (batches[-1].ended_at - batches[0].started_at).total_seconds()
    return seconds / len(batches)


@pytest.mark.benchmark(group="stream-sustainable-rate")
def test_highest_rate_that_is_sustained(lab, sized, record_durations, batch_s):
    """The compared value is the end-to-end latency of each row at that rate.

    The rate itself and the lowest one that did not hold are in the record, with every
    probe; where the generator or the machine was the limit, it is no result.
    """
    capacity_per_s = ROWS_PER_BATCH / batch_s
    duration_s = min(6.8, max(2.0, sized(full=16, smoke=8) * batch_s))
    generator_per_s = generator_ceiling_per_s(
        lab, ingest(sized(full=400_000, smoke=100_000), 1.0).feeds[0]
    )

    probes = []

    def probe_at(rate_per_s):
        query = ingest(rate_per_s, duration_s)
        probes.append(
            probe_stream(lab, query, rate_per_s=rate_per_s, duration_s=duration_s)
        )
        return probes[-1]

    found = find_sustainable_rate(
        probe_at,
        start_per_s=min(START_SHARE * capacity_per_s, generator_per_s / HEADROOM),
        generator_per_s=generator_per_s,
        tolerance=sized(full=0.42, smoke=0.5),
        probes_max=sized(full=7, smoke=4),
    )

    # Whatever was found, every row is in the table once.
    shown = found.best or probes[-1]
    drained = lab.run(
        ingest(shown.rate_per_s, duration_s), place=shown.run.place, metered=False
    )
    check_offsets([*shown.run.all_batches, *drained.all_batches], shown.feed)
    check_table(shown.run.place.path(), shown.feed.table())
    # Rows that were left over waited for the restart as well: no latency of a rate.
    waited = (
        found.best.waits_s()
        if found.best
        else waits_s(
            [*shown.run.all_batches, *drained.all_batches],
            shown.feed,
            since_ns=shown.since_ns,
        )
    )
    record_durations(
        waited,
        measure="end_to_end",
        wall_s=shown.run.wall_s,
        completed=len(waited),
        details={
            "closed_loop_per_s": round(capacity_per_s),
            **found.figures(),
            **wait_figures(waited),
        },
        invalid=found.invalid,
    )
