"""The correction is HdrHistogram's, side by side with what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.load import (
    LogLinearHistogram,
    constant_arrivals,
    run_closed_loop,
    run_open_loop,
)
from harness.load.correction import corrected, corrected_curve


def recorded_with_expected_interval(values, interval):
    """HdrHistogram's loop, word for word."""
    recorded = []
    for value in values:
        recorded.append(value)
        missing = value - interval
        while missing >= interval:
            recorded.append(missing)
            missing -= interval
    return np.array(recorded, dtype=np.int64)


@pytest.mark.parametrize("interval", [1, 7, 50, 120, 1000])
def test_correction_is_that_of_hdrhistogram(interval):
    """Values below 256 have a bucket each: nothing is rounded, so nothing differs."""
    values = np.random.default_rng(1).integers(0, 256, 500)
    expected = LogLinearHistogram.of(recorded_with_expected_interval(values, interval))
    found = corrected(LogLinearHistogram.of(values), expected_interval_ns=interval)
    assert found == expected


def test_correction_of_wide_buckets_differs_by_their_rounding_only():
    values = np.random.default_rng(2).lognormal(13, 2, 2000).astype(np.int64)
    interval = 400_000
    expected = LogLinearHistogram.of(recorded_with_expected_interval(values, interval))
    found = corrected(LogLinearHistogram.of(values), expected_interval_ns=interval)
    assert len(found) == pytest.approx(len(expected), rel=0.005)
    for q in (0.5, 0.9, 0.99, 0.999):
        assert found.quantile(q) == pytest.approx(expected.quantile(q), rel=0.01)
    assert found.value_max == expected.value_max
    assert found.value_min == expected.value_min


def test_a_minute_over_a_microsecond_adds_sixty_million_values_at_once():
    """They are counted, not made: the loop of the original would run for minutes."""
    minute = LogLinearHistogram.of(np.array([60_000_000_000]))
    found = corrected(minute, expected_interval_ns=1000)
    assert len(found) == pytest.approx(60_000_000, rel=0.005)
    assert found.quantile(0.5) == pytest.approx(30e9, rel=0.01)


def stalling_loop(**arguments):
    """1,000 operations of 1 ms; the 500th takes 200 ms."""
    clock = ManualClock()
    times = iter([0.001] * 499 + [0.2] + [0.001] * 500)
    return run_closed_loop(
        lambda _: clock.advance(next(times)),
        workers=1,
        count=1000,
        clock=clock,
        **arguments,
    )


def test_a_stall_shows_in_the_corrected_curve_and_not_in_the_measured_one():
    """Those who would have come every 1 ms during 200 ms: 199 more, evenly slow.

    A sixth of 1,199 callers waited: p95 is 140 ms by arithmetic, and 1 ms was seen.
    """
    curve = corrected_curve(stalling_loop(), expected_interval_s=0.001)
    both = curve.side_by_side_ms()["p95"]
    assert both["uncorrected"] == pytest.approx(1.0, rel=0.005)
    assert both["corrected"] == pytest.approx(200 - 0.05 * 1199, rel=0.01)
    assert len(curve.measured) == 1000
    assert len(curve.corrected) == pytest.approx(1199, abs=1)  # a bucket's middle
    assert "p99_9" not in curve.side_by_side_ms()
    assert "every 1 ms" in curve.label
    assert "no substitute" in curve.label


def test_the_interval_is_how_far_apart_starts_were_with_think_time():
    curve = corrected_curve(stalling_loop(think_time_s=0.009))
    assert curve.expected_interval_ns == pytest.approx(10.2e6, rel=0.002)


def test_what_cannot_be_corrected_says_so():
    clock = ManualClock()
    schedule = constant_arrivals(rate_per_s=10, duration_s=1)
    opened = run_open_loop(lambda _: None, schedule, workers=1, clock=clock)
    with pytest.raises(ConfigError, match="open loop"):
        corrected_curve(opened)
    with pytest.raises(ConfigError, match="> 0"):
        corrected_curve(stalling_loop(), expected_interval_s=0)

    def fail(_context):
        raise ValueError

    failed = run_closed_loop(fail, workers=1, count=3, clock=clock)
    with pytest.raises(ConfigError, match="no operation completed"):
        corrected_curve(failed)
