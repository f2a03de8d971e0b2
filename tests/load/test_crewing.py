"""The engine picks its workers from what it measured, and says what it picked."""

from __future__ import annotations

import time

import pytest

from harness.errors import LoadError
from harness.load import constant_arrivals, poisson_arrivals, run_open_loop
from harness.load.schedules import spike
from harness.load.trace import TraceArrivals


def test_slow_operations_get_as_many_workers_as_are_in_flight():
    """20 ms at 200/s keep four in flight; Poisson arrivals need room for more."""
    result = run_open_loop(
        lambda _context: time.sleep(0.020),
        poisson_arrivals(rate_per_s=200, duration_s=0.5, seed=1),
    )
    assert 8 <= result.workers <= 32
    # A closure cannot be sent to another process: it stays in this one.
    assert result.processes == 1
    assert f"{result.workers} workers in" in result.crewing
    assert "Little's law" in result.crewing
    assert result.scheduled == result.completed


def test_given_workers_are_taken_as_they_are():
    result = run_open_loop(
        lambda _context: None,
        constant_arrivals(rate_per_s=100, duration_s=0.1),
        workers=3,
    )
    assert result.workers == 3
    assert result.crewing is None


def test_an_operation_that_never_completes_is_refused_with_its_cause():
    def refuse(_context):
        msg = "no such table"
        raise LookupError(msg)

    with pytest.raises(LoadError, match="no such table"):
        run_open_loop(refuse, constant_arrivals(rate_per_s=10, duration_s=0.1))


def test_the_peak_of_a_schedule_is_what_counts():
    profile = spike(base_per_s=10, peak_per_s=90, before_s=1, spike_s=1, after_s=1)
    assert profile.rate_per_s_max == 90
    trace = TraceArrivals((0, 1, 2, 1_500_000_000, 3_000_000_000), "t")
    assert trace.rate_per_s_max == 3
