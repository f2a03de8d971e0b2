from __future__ import annotations

import pytest

from harness.clock import NS_PER_MS, SYSTEM_CLOCK, ManualClock
from harness.spark.wall_clocks import (
    ClockComparison,
    Probe,
    wall_clock_ns,
    wall_offset_ns,
)


def probe(asked, answered, **readings):
    return Probe(asked_ns=asked, answered_ns=answered, readings=list(readings.items()))


@pytest.mark.parametrize(
    ("probes", "apart", "bound"),
    [
        # Read between question and answer: the clocks may agree.
        ([probe(100, 140, a=120)], 0, 20),
        # The least it is ahead is what it shows more than at the answer.
        ([probe(100, 140, a=190)], 50, 90),
        ([probe(100, 140, a=30)], 70, 110),
        # A quick job says more than a slow one, whichever came first.
        ([probe(100, 140, a=120), probe(200, 210, a=205)], 0, 5),
        ([probe(200, 210, a=205), probe(100, 140, a=120)], 0, 5),
        # Two tasks on one machine read one clock.
        ([Probe(asked_ns=0, answered_ns=40, readings=[("a", 10), ("a", 35)])], 0, 10),
        # The worst machine counts.
        ([probe(100, 140, a=120, b=30)], 70, 110),
    ],
)
def test_comparison(probes, apart, bound):
    clocks = ClockComparison.of(probes)

    assert (clocks.apart_ns, clocks.bound_ns) == (apart, bound)


def test_the_machine_that_is_furthest_off_is_named():
    assert ClockComparison.of([probe(100, 140, a=120, b=30, c=150)]).furthest == "b"


def test_offset_turns_monotonic_into_wall_clock_time():
    offset_ns = wall_offset_ns(SYSTEM_CLOCK)

    difference_ns = (
        SYSTEM_CLOCK.monotonic_ns() + offset_ns - wall_clock_ns(SYSTEM_CLOCK)
    )
    assert abs(difference_ns) < 50 * NS_PER_MS


def test_offset_is_exact_on_a_clock_that_stands_still():
    clock = ManualClock()
    clock.advance(5)

    assert wall_offset_ns(clock) == wall_clock_ns(clock) - 5_000_000_000
