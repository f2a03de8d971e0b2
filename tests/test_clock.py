"""The manual clock moves only when told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.clock import SYSTEM_CLOCK, ManualClock


def test_manual_time_moves_by_what_is_advanced_or_slept():
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))
    clock.advance(1.5)
    clock.sleep(0.5)
    assert clock.monotonic_ns() == 2_000_000_000
    assert clock.now() == datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=2)


def test_manual_time_never_goes_back():
    with pytest.raises(ValueError, match="-1"):
        ManualClock().advance(-1)


def test_system_time_is_aware_and_monotonic():
    assert SYSTEM_CLOCK.now().tzinfo is UTC
    first = SYSTEM_CLOCK.monotonic_ns()
    SYSTEM_CLOCK.sleep(0)
    assert SYSTEM_CLOCK.monotonic_ns() >= first
