"""Schedules are pure: a table of arrivals, from their index, seeded."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.errors import ConfigError
from harness.load import (
    PoissonArrivals,
    RegularArrivals,
    TraceArrivals,
    constant_arrivals,
    poisson_arrivals,
    trace_arrivals,
)
from harness.load.schedules import constant_rate, ramp, sine, spike, steps


def offsets_s(schedule):
    return np.concatenate(list(schedule.chunks())) / 1e9


def per_second(schedule):
    counts, _ = np.histogram(
        offsets_s(schedule), bins=np.arange(math.ceil(schedule.duration_s) + 1)
    )
    return counts.tolist()


def test_constant_arrivals_are_evenly_spaced_from_zero_to_before_the_end():
    found = offsets_s(constant_arrivals(rate_per_s=4, duration_s=1.5))
    assert found.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


def test_no_rounding_error_accumulates_over_a_long_schedule():
    rate = 30_000 / 7  # an interval that nanoseconds cannot hold
    schedule = constant_arrivals(rate_per_s=rate, duration_s=3600)
    *_, last = itertools.chain.from_iterable(schedule.chunks())
    count = math.ceil(rate * 3600 - 1e-9)
    assert last / 1e9 == pytest.approx((count - 1) / rate, abs=2e-9)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (ramp(from_per_s=0, to_per_s=40, duration_s=4), [5, 15, 25, 35]),
        (ramp(from_per_s=40, to_per_s=0, duration_s=4), [35, 25, 15, 5]),
        (steps(rates_per_s=[10, 0, 20], step_s=1), [10, 0, 20]),
        (
            spike(base_per_s=10, peak_per_s=90, before_s=2, spike_s=1, after_s=2),
            [10, 10, 90, 10, 10],
        ),
    ],
)
def test_a_profile_gives_the_arrivals_of_its_integral(profile, expected):
    found = per_second(RegularArrivals(profile))
    # An arrival on the edge of a second may fall to either side of it.
    assert found == pytest.approx(expected, abs=1)
    assert sum(found) == sum(expected)


def test_a_sine_follows_the_exact_integral():
    profile = sine(mean_per_s=1000, amplitude_per_s=800, period_s=10, duration_s=20)
    found = offsets_s(RegularArrivals(profile))

    def integral(t):
        return 1000 * t + 800 * 10 / (2 * math.pi) * (1 - np.cos(2 * np.pi * t / 10))

    assert np.abs(integral(found) - np.arange(len(found))).max() < 0.5
    assert len(found) == 20_000


def test_poisson_gaps_are_exponential_and_independent():
    gaps = np.diff(offsets_s(poisson_arrivals(rate_per_s=500, duration_s=60, seed=3)))
    assert stats.kstest(gaps, stats.expon(scale=1 / 500).cdf).pvalue > 0.01
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_poisson_counts_follow_a_rate_that_varies():
    profile = ramp(from_per_s=100, to_per_s=900, duration_s=40)
    counts = np.array(per_second(PoissonArrivals(profile, seed=5)))
    expected = 100 + 20 * (np.arange(40) + 0.5)
    # Variance equals mean for a Poisson count: each z is standard normal.
    z = (counts - expected) / np.sqrt(expected)
    assert stats.kstest(z, "norm").pvalue > 0.01


def test_a_seed_gives_the_same_arrivals_and_another_gives_others():
    def arrivals(seed):
        return offsets_s(poisson_arrivals(rate_per_s=100, duration_s=5, seed=seed))

    assert (arrivals(1) == arrivals(1)).all()
    assert not np.array_equal(arrivals(1), arrivals(2))


@given(
    st.lists(
        st.tuples(st.floats(0.01, 5), st.floats(0, 2000), st.floats(0, 2000)),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_any_schedule_is_ordered_and_ends_before_its_end(pieces, poisson):
    from harness.load.schedules import RateProfile

    if not any(a + b for _, a, b in pieces):
        return
    profile = RateProfile(tuple(pieces), "drawn")
    kind = PoissonArrivals if poisson else RegularArrivals
    schedule = kind(profile)
    chunks = list(schedule.chunks())
    if not chunks:
        assert poisson or profile.expected_count < 1e-6
        return
    offsets = np.concatenate(chunks)
    assert (np.diff(offsets) >= 0).all()
    assert offsets[0] >= 0
    assert offsets[-1] < schedule.duration_s * 1e9
    if not poisson:
        assert len(offsets) == math.ceil(profile.expected_count - 1e-9)


def test_a_trace_keeps_its_gaps_and_starts_at_zero(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text("# seconds\n10.5\n10.75  # burst\n\n10.75\n12\n")
    schedule = trace_arrivals(path)
    assert offsets_s(schedule).tolist() == [0.0, 0.25, 0.25, 1.5]
    assert schedule.duration_s > 1.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no arrivals"),
        ("1\nx\n", ":2: must be seconds, got 'x'"),
        ("2\n1\n", ":2: must not go back in time, got 1"),
        ("nan\n", ":1: must be a finite number, got 'nan'"),
        ("0\ninf\n", ":2: must be a finite number"),
        ("# nothing but remarks\n\n", "holds no arrivals"),
        ("1,5\n", ":1: must be seconds, got '1,5'"),
        ("0\n-0.1\n", ":2: must not go back in time"),
        ("0\n1e300\n", ":2: must be within 52 days of the first arrival"),
        ("-1e300\n1e300\n", ":2: must be within 52 days of the first arrival"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path, text, named):
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"trace\.txt") as caught:
        trace_arrivals(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("offsets_ns", "named"),
    [
        ((), "holds no arrivals"),
        ((-1, 0), "between 0 and 52 days"),
        ((0, 10**30), "between 0 and 52 days"),
        ((0, 2, 1), "arrival 2 comes before the one ahead"),
    ],
)
def test_impossible_arrivals_are_refused_also_without_a_file(offsets_ns, named):
    with pytest.raises(ConfigError, match="trace drawn") as caught:
        TraceArrivals(offsets_ns, "drawn")
    assert named in str(caught.value)


def test_a_trace_that_begins_before_zero_or_is_long_and_sparse_costs_no_memory(
    tmp_path,
):
    path = tmp_path / "trace.txt"
    path.write_text("-5\n-4.5\n4000000\n")
    schedule = trace_arrivals(path)
    assert offsets_s(schedule).tolist() == [0.0, 0.5, 4_000_005.0]
    tracemalloc.start()
    assert schedule.rate_per_s_max == 2.0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_missing_trace_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        trace_arrivals(tmp_path / "none.txt")


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ConfigError):
        constant_arrivals(rate_per_s=rate, duration_s=1)


@pytest.mark.parametrize("duration", [0, -1, math.nan, math.inf])
def test_an_impossible_duration_is_refused(duration):
    with pytest.raises(ConfigError, match="duration_s"):
        poisson_arrivals(rate_per_s=1, duration_s=duration)


def test_a_schedule_says_what_it_is():
    described = PoissonArrivals(
        constant_rate(rate_per_s=50, duration_s=2), 7
    ).describe()
    assert described == "poisson, 50/s for 2 s, seed 7"
