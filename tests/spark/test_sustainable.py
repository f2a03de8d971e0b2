"""The search for a sustainable rate, against capacities that are known."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness import ConfigError
from harness.load.schedules import constant_rate
from harness.load.search import Verdict
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.lab import Place, Query, Run
from harness.spark.sustainable import (
    StreamProbe,
    find_sustainable_rate,
    generator_ceiling_per_s,
    judge_stream,
    probe_stream,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DURATION_S = 20.0
BATCH_S = 0.5
# Planted: so many rows at most, once each trigger.
ROWS_PER_BATCH = 400
TRIGGER_S = 0.5


def feed_at(rate_per_s, duration_s):
    profile = constant_rate(rate_per_s=rate_per_s, duration_s=duration_s)
    rows_count = int(profile.expected_count)
    return Feed(dataset=Orders(), seed=1, rows_count=rows_count, schedule=profile)


@pytest.fixture
def simulated(batches_of):
    """Makes the probe of a stream whose capacity is known."""

    def make(rate_per_s, *, capacity_per_s, duration_s=DURATION_S):
        feed = feed_at(rate_per_s, duration_s)
        batches = batches_of(
            feed, capacity_per_s=capacity_per_s, batch_s=BATCH_S, until_s=duration_s
        )
        return StreamProbe(
            rate_per_s=rate_per_s,
            run=Run(
                place=Place(None, Path()),
                batches={"q": batches},
                wall_s=duration_s,
                usage=None,
            ),
            feed=feed,
            since_ns=int(START.timestamp() * 1e9),
            duration_s=duration_s,
        )

    return make


@pytest.fixture
def found_for(simulated):
    """Searches the rate of a stream whose capacity is known; returns what it asked."""

    def search(capacity_per_s, **how):
        asked = []

        def probe_at(rate_per_s):
            asked.append(rate_per_s)
            return simulated(rate_per_s, capacity_per_s=capacity_per_s)

        how = {"start_per_s": 500.0, "generator_per_s": 1e6, "tolerance": 0.05} | how
        return find_sustainable_rate(probe_at, **how), asked

    return search


@pytest.mark.parametrize("capacity_per_s", [120, 600, 2200, 7000])
def test_bisected_rate_is_the_capacity_of_the_stream(found_for, capacity_per_s):
    found, _ = found_for(capacity_per_s)

    assert found.invalid is None
    # A backlog that grows by 1 % of the rate is no growth: see SLOPE_MAX.
    assert found.search.held_per_s <= capacity_per_s * 1.02
    assert found.search.violated_per_s >= capacity_per_s
    assert found.search.violated_per_s <= found.search.held_per_s * 1.05
    assert found.best.rate_per_s == found.search.held_per_s
    assert found.figures()["sustainable_per_s"] == round(found.search.held_per_s, 1)


def test_no_rate_is_tried_that_the_generator_cannot_make_with_headroom(found_for):
    found, asked = found_for(5000, generator_per_s=2500.0)

    assert max(asked) == 2000
    assert "the limit of the stream lies above" in found.invalid
    assert found.figures()["unsustainable_per_s"] is None


def test_generator_too_slow_for_the_start_is_refused_before_anything_runs(found_for):
    with pytest.raises(ConfigError, match=r"at most 400.*500 rows/s.*got 500"):
        found_for(5000, generator_per_s=500.0)


def test_stream_that_holds_nothing_gives_no_rate(found_for):
    found, _ = found_for(1, start_per_s=64.0)

    assert "no sustainable rate" in found.invalid or found.search.held_per_s <= 2
    assert (found.best is None) == (found.search.held_per_s is None)


def test_rows_that_wait_too_long_violate_though_the_backlog_holds(simulated):
    """One micro-batch takes half a second; a row waits for one and for its own."""
    probe = simulated(500, capacity_per_s=1000)

    kept, broken = (judge_stream(probe, wait_max_s=s) for s in (1.2, 0.8))

    assert (kept.verdict, broken.verdict) == (Verdict.HELD, Verdict.VIOLATED)
    assert 900 <= broken.value_ms <= 1000
    assert "the limit is 800 ms" in broken.reason


def test_run_with_too_few_micro_batches_is_no_verdict(simulated):
    found = judge_stream(simulated(500, capacity_per_s=1000, duration_s=2.0))

    assert found.verdict is Verdict.INVALID
    assert "too few to tell a trend" in found.reason


def test_feeds_other_than_one_are_refused():
    with pytest.raises(ConfigError, match="'q' must have one feed, got 0"):
        probe_stream(None, Query(name="q"), rate_per_s=1, duration_s=1)


@pytest.mark.spark
def test_planted_capacity_of_a_real_stream_is_found(lab):
    """Admission control and trigger allow 800 rows/s, however fast the machine is.

    A crowded one makes some triggers late and the capacity smaller, never larger.
    """
    capacity_per_s = ROWS_PER_BATCH / TRIGGER_S
    duration_s = 4.0

    def probe_at(rate_per_s):
        feed = feed_at(rate_per_s, duration_s)
        query = Query(
            name="planted",
            feeds=(feed,),
            into="",
            batches_count=max(1, -(-feed.rows_count // ROWS_PER_BATCH)),
        )
        return probe_stream(
            lab,
            query,
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            trigger_s=TRIGGER_S,
        )

    found = find_sustainable_rate(
        probe_at,
        start_per_s=capacity_per_s * 0.65,
        generator_per_s=generator_ceiling_per_s(lab, feed_at(50_000, 1.0)),
        tolerance=0.5,
        probes_max=8,
    )

    probes = found.search.probes
    above = [p for p in probes if p.rate_per_s > capacity_per_s * 1.2]
    assert not [p for p in above if p.finding.verdict is Verdict.HELD]
    if found.search.held_per_s is not None:
        assert found.search.held_per_s <= capacity_per_s * 1.1
        assert found.best.rate_per_s == found.search.held_per_s
    assert len(found.figures()["probes"]) == len(probes) > 0
