"""An interval encloses the true quantile as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.clock import ManualClock
from harness.load import LogLinearHistogram, poisson_arrivals, run_open_loop
from harness.load.intervals import (
    dependence,
    histogram_interval,
    histogram_intervals,
    interval_ranks,
    quantile_interval,
    quantile_intervals,
)
from harness.load.quantiles import QUANTILES, samples_needed


@pytest.mark.parametrize("q", [0.001, 0.25, *QUANTILES.values()])
@pytest.mark.parametrize("count", [6, 72, 368, 3_688, 100_000, 100_000_000])
def test_ranks_are_those_of_the_binomial_distribution(count, q):
    """Smallest ranks whose tails hold no more than 2.5 % each, as SciPy has them."""
    ranks = interval_ranks(count, q)
    if q**count > 0.025 or (1 - q) ** count > 0.025:
        assert ranks is None
        return
    low, high = (
        int(stats.binom.ppf(0.025, count, q)),
        int(stats.binom.ppf(0.975, count, q)),
    )
    assert ranks == (low, high + 1)


@pytest.mark.parametrize("q", QUANTILES.values())
def test_an_interval_exists_exactly_where_a_quantile_is_printed(q):
    assert interval_ranks(samples_needed(q), q) is not None
    assert interval_ranks(samples_needed(q) - 1, q) is None
    assert interval_ranks(0, q) is None


@pytest.mark.parametrize(("q", "count"), [(0.5, 25), (0.9, 100), (0.99, 1000)])
def test_coverage_is_at_least_what_it_says_and_not_by_far(q, count):
    """4,000 samples of a log-normal: 95 % within simulation error, and discreteness.

    What order statistics can enclose comes in steps, so coverage is at or above 95 %;
    the exact coverage of these ranks is known from the binomial distribution.
    """
    random = np.random.default_rng(7)
    truth = math.exp(stats.norm.ppf(q))
    samples = np.sort(random.lognormal(size=(4000, count)), axis=1)
    low, high = interval_ranks(count, q)
    enclosed = (samples[:, low - 1] <= truth) & (truth <= samples[:, high - 1])
    exact = stats.binom.cdf(high - 1, count, q) - stats.binom.cdf(low - 1, count, q)
    assert exact >= 0.95
    assert enclosed.mean() == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_coverage_holds_for_independent_samples_with_dependence_estimated(q):
    random = np.random.default_rng(8)
    truth = math.exp(stats.norm.ppf(q))
    enclosed = 0
    for _ in range(400):
        found = quantile_intervals(random.lognormal(size=2000))
        low, high = found[f"p{round(q * 100)}"]
        enclosed += low <= truth <= high
    assert 0.94 <= enclosed / 400 <= 1.0


def test_coverage_holds_for_samples_that_depend_on_each_other():
    """An autoregressive series with memory 0.9: each sample is worth a twentieth.

    Ignoring the dependence, the interval encloses the median in fewer than 60 %.
    """
    random = np.random.default_rng(9)
    enclosed = naive = 0
    for _ in range(200):
        noise = random.normal(size=10_000)
        noise[0] /= math.sqrt(1 - 0.81)
        values = np.empty_like(noise)
        level = 0.0
        for i, step in enumerate(noise.tolist()):
            level = 0.9 * level + step
            values[i] = level
        low, high = quantile_intervals(values)["p50"]
        enclosed += low <= 0 <= high
        low, high = quantile_interval(np.sort(values), 0.5)
        naive += low <= 0 <= high
    assert enclosed / 200 >= 0.90
    assert naive / 200 < 0.60


def test_p99_of_an_m_m_1_queue_lies_in_its_interval():
    """Response time in M/M/1 is exponential with rate mu - lambda."""
    mu, rate = 100.0, 60.0
    truth_s = math.log(100) / (mu - rate)
    enclosed = 0
    for seed in range(10):
        clock = ManualClock()
        random = np.random.default_rng(1000 + seed)  # not the arrivals' stream
        result = run_open_loop(
            lambda _, clock=clock, random=random: clock.advance(
                random.exponential(1 / mu)
            ),
            poisson_arrivals(rate_per_s=rate, duration_s=520, seed=seed),
            workers=1,
            warmup_s=20,
            drain_s=100,
            clock=clock,
        )
        low, high = quantile_intervals(result.samples.response_time_ns)["p99"]
        enclosed += low <= truth_s * 1e9 <= high
    assert enclosed >= 8


def m_m_1_response_times(random, *, count, utilization):
    """Lindley's recursion from its steady state, with a service rate of 1."""
    between = random.exponential(1 / utilization, count)
    service = random.exponential(1, count)
    busy = random.random() < utilization
    first = random.exponential(1 / (1 - utilization)) if busy else 0.0
    walk = np.concatenate(([0.0], np.cumsum(service[:-1] - between[1:])))
    return walk - np.minimum(-first, np.minimum.accumulate(walk)) + service


@pytest.mark.parametrize(
    ("utilization", "count"), [(0.6, 13_200), (0.8, 50_000), (0.9, 50_000)]
)
def test_no_more_than_one_interval_in_twenty_misses_in_a_queue(utilization, count):
    """Of 400 runs, at p50, p90, p95 and p99, and of those that claim an interval.

    As if independent, most intervals of the p99 miss it: that is the control. The
    seed was drawn after the rules were fixed, and tried once.
    """
    random = np.random.default_rng(71_830_002)
    misses, claims = dict.fromkeys(QUANTILES, 0), dict.fromkeys(QUANTILES, 0)
    naive_misses = 0
    for _ in range(400):
        values = m_m_1_response_times(random, count=count, utilization=utilization)
        for key, (low, high) in quantile_intervals(values).items():
            truth = -math.log(1 - QUANTILES[key]) / (1 - utilization)
            claims[key] += 1
            misses[key] += not low <= truth <= high
        truth = -math.log(0.01) / (1 - utilization)
        low, high = quantile_interval(np.sort(values), 0.99)
        naive_misses += not low <= truth <= high
    assert claims["p50"] == 400
    for key, missed in misses.items():
        # No more than 5 % of the claims, as far as chance explains.
        assert missed <= stats.binom.ppf(0.99, claims[key], 0.05), (key, claims[key])
    assert naive_misses > 200


def test_a_run_kept_as_histograms_knows_what_its_neighbours_shared():
    """The interval of a folded run is as wide as that of the same run kept whole."""

    def run(raw_budget):
        clock, random = ManualClock(), np.random.default_rng(21)
        return run_open_loop(
            lambda _: clock.advance(random.exponential(0.01)),
            poisson_arrivals(rate_per_s=60, duration_s=200, seed=22),
            workers=1,
            drain_s=100,
            raw_budget=raw_budget,
            clock=clock,
        )

    whole, folded = run(1_000_000), run(6_000)
    assert folded.folded is not None
    ranks = quantile_intervals(whole.samples.response_time_ns)["p50"]
    known = histogram_intervals(
        folded.summary.histograms["response_time"],
        dependence=folded.folded.dependence,
    )["p50"]
    forgotten = histogram_intervals(folded.summary.histograms["response_time"])["p50"]
    width = ranks[1] - ranks[0]
    assert 0.6 * width < known[1] - known[0] < 1.7 * width
    assert forgotten[1] - forgotten[0] < 0.5 * width


def test_a_histogram_gives_the_interval_of_its_samples_widened_by_its_buckets():
    values = np.random.default_rng(3).lognormal(14, 1, 50_000).astype(np.int64)
    histogram = LogLinearHistogram.of(values)
    for key, (low, high) in histogram_intervals(histogram).items():
        exact_low, exact_high = quantile_interval(np.sort(values), QUANTILES[key])
        assert low <= exact_low <= low * (1 + 1 / 128)
        assert high * (1 - 1 / 128) <= exact_high <= high
    assert histogram_interval(histogram, 0.5, dependence=20.0) > (0, 0)
    narrow = histogram_interval(histogram, 0.5)
    wide = histogram_interval(histogram, 0.5, dependence=20.0)
    assert wide[0] < narrow[0]
    assert narrow[1] < wide[1]


def test_dependence_of_independent_samples_is_about_one():
    values = np.random.default_rng(4).exponential(size=20_000)
    assert 1.0 <= dependence(values, float(np.quantile(values, 0.9))) < 3.0
    assert dependence(np.ones(1000), 1.0) == 1.0
    assert dependence(values[:100], 0.5) == 1.0


def test_too_few_samples_have_no_interval():
    assert quantile_intervals(np.arange(5.0)) == {}
    assert set(quantile_intervals(np.arange(100.0))) == {"p50", "p90", "p95"}
    assert histogram_intervals(LogLinearHistogram.of(np.array([], np.int64))) == {}
