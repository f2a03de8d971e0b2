"""Rows come on schedule whether or not the stream keeps up: does it?"""

from __future__ import annotations

import dataclasses

import pytest

from harness.load.schedules import constant_rate, spike
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.proof import check_offsets, check_table
from harness.spark.stream_record import wait_figures, waits_s
from harness.spark.sustain import (
    HEADROOM,
    NO_LOG_CHECKPOINTS,
    backlog_trend,
    catch_up_time_s,
)

# The stream may take this many rows at a time: its capacity is this per batch time.
ROWS_PER_BATCH = 2_000
GENERATOR_ROWS = 400_000


def ingest(profile, *, seed=601):
    rows_count = int(profile.expected_count)
    feed = Feed(dataset=Orders(), seed=seed, rows_count=rows_count, schedule=profile)
    return Query(
        name="ingest",
        feeds=(feed,),
        batches_count=max(1, -(-rows_count // ROWS_PER_BATCH)),
        conf=NO_LOG_CHECKPOINTS,
    )


@pytest.fixture
def batch_s(lab):
    """Measured, closed loop: how long a full micro-batch takes, once compiled."""
    query = ingest(constant_rate(rate_per_s=ROWS_PER_BATCH, duration_s=7))
    batches = lab.run(query).batches["ingest"][3:]
    seconds = (batches[-1].ended_at - batches[0].started_at).total_seconds()
    return seconds / len(batches)


@pytest.fixture
def generator_per_s(lab):
    """Measured: rows per second that the source makes for a sink that drops them."""
    feed = Feed(dataset=Orders(), seed=602, rows_count=GENERATOR_ROWS)
    query = Query(name="nowhere", feeds=(feed,), into="", batches_count=4)
    batches = lab.run(query, metered=False).batches["nowhere"][1:]
    return max(batch.rows_count / batch.duration_s for batch in batches)


def live(lab, query, rate_per_s):
    """Run a query as its rows come; return run, start and the trend of its backlog."""
    feed = query.feeds[0]
    duration_s = feed.schedule.duration_s
    run, since_ns = lab.run_live(query, duration_s=duration_s)
    trend = backlog_trend(
        run.batches["ingest"],
        feed,
        since_ns=since_ns,
        rate_per_s=rate_per_s,
        warmup_s=duration_s / 4,
    )
    return run, since_ns, trend


@pytest.mark.benchmark(group="stream-sustained-rate")
def test_rate_below_capacity_is_sustained_and_twice_capacity_is_not(
    lab, sized, record_durations, batch_s, generator_per_s
):
    """The compared value is the end-to-end latency of each row at a third of capacity.

    Twice the capacity is the negative control: it must be judged unsustainable.
    """
    duration_s = min(24.0, sized(full=16, smoke=9) * batch_s)
    capacity_per_s = ROWS_PER_BATCH / batch_s
    low, high = capacity_per_s / 3, capacity_per_s * 2

    below = ingest(constant_rate(rate_per_s=low, duration_s=duration_s))
    run, since_ns, trend = live(lab, below, low)
    above = ingest(constant_rate(rate_per_s=high, duration_s=duration_s))
    _, _, overload = live(lab, above, high)

    assert not overload.sustained, f"{overload} is twice the capacity"
    # Of a handful of micro-batches a single long one tilts the line; an overload's
    # is tilted by half of the rate.
    half = overload.slope_per_s / high / 2
    held = sized(full=trend.sustained, smoke=trend.slope_per_s / low < half)
    assert held, f"{trend} is a third of the capacity, {overload} twice"
    feed = below.feeds[0]
    waited = waits_s(run.batches["ingest"], feed, since_ns=since_ns)
    drained = lab.run(below, place=run.place, metered=False)
    check_table(run.place.path(), feed.table())
    every = [*run.batches["ingest"], *drained.batches["ingest"]]
    check_offsets(every, feed)
    invalid = None
    if generator_per_s < HEADROOM * high:
        invalid = (
            f"the generator makes {generator_per_s:.0f} rows/s, too few for {high:.0f}"
        )
    elif not trend.decided:
        invalid = f"too short or too noisy to tell a backlog that grows: {trend}"
    record_durations(
        waited,
        measure="end_to_end",
        wall_s=run.wall_s,
        completed=len(waited),
        details={
            "capacity_per_s": round(capacity_per_s),
            "generator_per_s": round(generator_per_s),
            **trend.figures(),
            **wait_figures(waited),
            "overload_backlog_slope_share": overload.figures()["backlog_slope_share"],
        },
        invalid=invalid,
    )


def test_stream_catches_up_after_a_burst(lab, batch_s):
    """The backlog of a burst above capacity is worked off, and no row is lost."""
    capacity_per_s = ROWS_PER_BATCH / batch_s
    base, peak = capacity_per_s / 4, capacity_per_s * 2
    before_s, burst_s, after_s = 4 * batch_s, 2 * batch_s, 9 * batch_s
    query = ingest(
        spike(
            base_per_s=base,
            peak_per_s=peak,
            before_s=before_s,
            spike_s=burst_s,
            after_s=after_s,
        )
    )
    feed = query.feeds[0]

    run, since_ns = lab.run_live(query, duration_s=before_s + burst_s + after_s)

    took_s = catch_up_time_s(
        run.batches["ingest"],
        feed,
        since_ns=since_ns,
        burst_starts_s=before_s,
        burst_ends_s=before_s + burst_s,
    )
    assert took_s is not None, "the backlog did not come back to what it was"
    assert took_s > 0, "the burst was no burst: the stream was never behind"
    lab.run(query, place=run.place, metered=False)
    check_table(run.place.path(), feed.table())


def test_what_piled_up_while_stopped_is_caught_up_with(lab):
    """AvailableNow: a stream that was off takes what is due by now, and ends."""
    first = ingest(constant_rate(rate_per_s=2_000, duration_s=1))
    run = lab.run(first)
    later = dataclasses.replace(
        first.feeds[0],
        rows_count=6_000,
        schedule=constant_rate(rate_per_s=2_000, duration_s=3),
    )
    query = dataclasses.replace(first, feeds=(later,), batches_count=3)

    again = lab.run(query, place=run.place)

    assert sum(batch.rows_count for batch in again.batches["ingest"]) == 4_000
    check_offsets([*run.batches["ingest"], *again.batches["ingest"]], later)
    check_table(run.place.path(), later.table())
