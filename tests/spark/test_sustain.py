from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from harness import SparkError
from harness.load.schedules import constant_rate, spike
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.progress import MicroBatch
from harness.spark.stream_record import wait_figures, waits_s
from harness.spark.sustain import Trend, backlog_trend, catch_up_time_s

START = datetime(2026, 1, 1, tzinfo=UTC)
SINCE_NS = int(START.timestamp() * 1e9)


def feed_at(profile):
    rows_count = int(profile.expected_count)
    return Feed(dataset=Orders(), seed=1, rows_count=rows_count, schedule=profile)


@pytest.mark.parametrize(
    ("capacity_per_s", "sustained"), [(2000, True), (1050, True), (950, False)]
)
def test_backlog_grows_where_the_rate_is_above_capacity(
    batches_of, capacity_per_s, sustained
):
    feed = feed_at(constant_rate(rate_per_s=1000, duration_s=20))
    batches = batches_of(feed, capacity_per_s=capacity_per_s)

    trend = backlog_trend(batches, feed, since_ns=SINCE_NS, rate_per_s=1000, warmup_s=2)

    assert trend.sustained is sustained
    growth = max(0, 1000 - capacity_per_s)
    assert trend.slope_per_s == pytest.approx(growth, abs=1)


def test_run_too_short_for_a_trend_is_no_verdict(batches_of):
    feed = feed_at(constant_rate(rate_per_s=1000, duration_s=4))

    with pytest.raises(SparkError, match="too few to tell a trend"):
        backlog_trend(
            batches_of(feed, capacity_per_s=2000),
            feed,
            since_ns=SINCE_NS,
            rate_per_s=1000,
            warmup_s=2,
        )


def test_catch_up_takes_as_long_as_the_arithmetic_says(batches_of):
    """6 s at 3000/s against 2000/s leave 6000 rows, worked off at 1000/s.

    Seen at the ends of micro-batches, which are half a second apart: two later at most.
    """
    profile = spike(base_per_s=1000, peak_per_s=3000, before_s=5, spike_s=6, after_s=15)
    feed = feed_at(profile)
    batches = batches_of(feed, capacity_per_s=2000, batch_s=0.5, until_s=26)
    burst = {"since_ns": SINCE_NS, "burst_starts_s": 5.0, "burst_ends_s": 11.0}

    assert 6.0 <= catch_up_time_s(batches, feed, **burst) <= 7.0
    assert catch_up_time_s(batches[:30], feed, **burst) is None


def test_every_row_waits_from_when_it_was_due_until_its_batch_was_visible(batches_of):
    """Rows of a stalled batch waited since they were due, not since it began."""
    feed = feed_at(constant_rate(rate_per_s=100, duration_s=10))
    (batch,) = batches_of(feed, capacity_per_s=10_000, until_s=1.0)
    stalled = MicroBatch(
        batch_id=1,
        started_at=START + timedelta(seconds=5),
        duration_s=2.0,
        durations_ms={"addBatch": 1, "commitOffsets": 500},
        rows_count=500,
        rows_are_exact=True,
        rows_dropped_by_watermark=0,
        watermark=None,
        ranges=((1, 501),),
    )

    waited = waits_s([batch, stalled], feed, since_ns=SINCE_NS)

    visible_s = 6.5  # 5 + 2 - the half second of the checkpoint
    expected = np.concatenate([[1.0], visible_s - np.arange(1, 501) / 100])
    assert waited == pytest.approx(expected, abs=1e-6)
    assert wait_figures(waited)["end_to_end_ms_max"] == pytest.approx(6490, abs=1)


@pytest.mark.parametrize(
    ("slope_per_s", "slope_error_per_s", "sustained", "decided"),
    [
        pytest.param(0, 20, True, True, id="calm"),
        pytest.param(0, 30, True, False, id="noisy"),
        pytest.param(60, 50, True, False, id="grows or not"),
        pytest.param(900, 50, False, True, id="noisy and hopeless"),
    ],
)
def test_verdict_of_a_noisy_run_is_no_verdict(
    slope_per_s, slope_error_per_s, sustained, decided
):
    """Two standard errors let a short run pass: then it must say that it is short."""
    trend = Trend(
        rate_per_s=1000,
        slope_per_s=slope_per_s,
        slope_error_per_s=slope_error_per_s,
        batches_count=5,
    )

    assert (trend.sustained, trend.decided) == (sustained, decided)
