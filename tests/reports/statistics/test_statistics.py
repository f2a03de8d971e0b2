"""The statistics, held against SciPy, enumeration, and the truth of simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from harness.reports.statistics.multiplicity import holm
from harness.reports.statistics.power import detectable_log_change, runs_to_settle
from harness.reports.statistics.ranks import rank_sum_tail, signed_rank_tail
from harness.reports.statistics.ratios import paired_evidence, unpaired_evidence
from harness.reports.statistics.student import t_quantile, t_tail


@pytest.mark.parametrize("df", [1, 2, 4.7, 11, 38, 400])
def test_student_tail_and_quantile_are_those_of_scipy(df):
    for t in (-9.0, -1.3, 0.0, 0.4, 2.2, 7.0, 60.0):
        assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9)
    for tail in (0.5, 0.2, 0.025, 0.000_1, 1e-8):
        assert t_quantile(tail, df) == pytest.approx(stats.t.isf(tail, df), rel=1e-8)


def test_signed_rank_distribution_is_that_of_all_sign_flips():
    flips = itertools.product((0, 1), repeat=9)
    sums = [sum((i + 1) * s for i, s in enumerate(signs)) for signs in flips]
    tail = signed_rank_tail(9)
    for k in range(47):
        assert tail[k] == pytest.approx(np.mean([s >= k for s in sums]), abs=1e-12)


def test_rank_sum_distribution_is_that_of_all_ways_to_deal_the_runs():
    statistics = []
    for chosen in itertools.combinations(range(9), 4):
        others = set(range(9)) - set(chosen)
        statistics.append(sum(c > o for c in chosen for o in others))
    tail = rank_sum_tail(5, 4)
    for k in range(22):
        share = np.mean([s >= k for s in statistics])
        assert tail[k] == pytest.approx(share, abs=1e-12)


def test_exact_p_values_are_those_of_scipy():
    rng = np.random.default_rng(3)
    old, new = rng.lognormal(size=10), rng.lognormal(0.5, size=10)
    paired = paired_evidence(old, new)
    oracle = stats.wilcoxon(np.log(new / old), alternative="greater", method="exact")
    assert paired.p_above(0.0) == pytest.approx(oracle.pvalue)
    unpaired = unpaired_evidence(old, new)
    oracle = stats.mannwhitneyu(new, old, alternative="greater", method="exact")
    assert unpaired.p_above(0.0) == pytest.approx(oracle.pvalue)


def test_student_interval_is_that_of_scipy_where_there_are_few_runs():
    rng = np.random.default_rng(4)
    old, new = rng.lognormal(size=5), rng.lognormal(size=5)
    low, high = paired_evidence(old, new).interval(0.95)
    oracle = stats.ttest_1samp(np.log(new / old), 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((oracle.low, oracle.high))
    low, high = unpaired_evidence(old, new).interval(0.95)
    test = stats.ttest_ind(np.log(new), np.log(old), equal_var=False)
    oracle = test.confidence_interval(0.95)
    assert (low, high) == pytest.approx((oracle.low, oracle.high))


def test_the_interval_is_the_set_of_ratios_the_test_does_not_reject():
    rng = np.random.default_rng(5)
    for evidence in (
        paired_evidence(rng.lognormal(size=12), rng.lognormal(size=12)),
        unpaired_evidence(rng.lognormal(size=9), rng.lognormal(size=8)),
    ):
        low, high = evidence.interval(0.95)
        assert evidence.p_above(low - 1e-9) <= 0.025 < evidence.p_above(low + 1e-9)
        assert evidence.p_below(high + 1e-9) <= 0.025 < evidence.p_below(high - 1e-9)
        assert low <= evidence.estimate <= high


def noise(kind, rng, shape):
    """Runs of one side: calm, heavy-tailed, or with a slow run in eight."""
    if kind == "normal":
        return rng.normal(0, 0.04, shape)
    if kind == "heavy":
        return 0.03 * rng.standard_t(3, shape)
    slow = (rng.random(shape) < 0.125) * rng.exponential(0.3, shape)
    return rng.normal(0, 0.02, shape) + slow


@pytest.mark.parametrize("runs", [6, 8, 12, 20])
@pytest.mark.parametrize("kind", ["normal", "heavy", "spikes"])
@pytest.mark.parametrize("weigh", [paired_evidence, unpaired_evidence])
def test_a_95_percent_interval_misses_the_true_ratio_at_most_5_percent_of_the_time(
    weigh, kind, runs
):
    """1,500 experiments: three standard errors of the share are 1.7 points."""
    rng = np.random.default_rng(runs)
    truth = math.log(1.1)
    misses = 0
    for _ in range(1500):
        old = np.exp(noise(kind, rng, runs))
        new = np.exp(truth + noise(kind, rng, runs))
        low, high = weigh(old, new).interval(0.95)
        misses += not low <= truth <= high
    assert misses / 1500 <= 0.05 + 0.017


def test_a_bootstrap_interval_would_have_failed_that_promise():
    """The negative control: the simulation sees an interval that is too narrow."""
    rng = np.random.default_rng(6)
    misses = 0
    for _ in range(1500):
        differences = rng.normal(0, 0.04, 6)
        means = rng.choice(differences, (400, 6)).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        misses += not low <= 0 <= high
    assert misses / 1500 > 0.1


def test_a_drifting_machine_is_not_taken_for_a_change_when_sides_ran_in_blocks():
    """Runs whose level wanders: unguarded, the test rejects far too often."""
    rng = np.random.default_rng(7)
    alarms = {True: 0, False: 0}
    for _ in range(800):
        level = np.zeros(24)
        for i in range(1, 24):
            level[i] = 0.7 * level[i - 1] + rng.normal(0, 0.03)
        for blocked in alarms:
            evidence = unpaired_evidence(
                np.exp(level[:12]), np.exp(level[12:]), blocked=blocked
            )
            alarms[blocked] += evidence.p_above(0.0) <= 0.025
    assert alarms[False] > 60
    assert alarms[True] < alarms[False] / 2


def test_holm_is_bonferroni_for_the_smallest_and_weaker_for_each_that_follows():
    assert holm([0.04, 0.001, 0.03]) == pytest.approx([0.06, 0.003, 0.06])
    assert holm([]) == []
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_a_change_of_the_detectable_size_is_detected_four_times_in_five():
    rng = np.random.default_rng(8)
    threshold = math.log(1.02)
    found = []
    for _ in range(600):
        calm = rng.normal(0, 1, 7)
        calm *= 0.03 / calm.std(ddof=1)  # the noise was estimated rightly
        evidence = paired_evidence(np.ones(7), np.exp(calm))
        change = detectable_log_change(evidence, threshold=threshold, level=0.025)
        again = paired_evidence(np.ones(7), np.exp(rng.normal(change, 0.03, 7)))
        found.append(again.p_above(threshold) <= 0.025)
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_the_runs_named_as_enough_do_settle_it():
    rng = np.random.default_rng(9)
    threshold = math.log(1.02)
    few = paired_evidence(np.ones(7), np.exp(rng.normal(0.06, 0.05, 7)))
    assert few.p_above(threshold) > 0.025
    runs = runs_to_settle(few, threshold=threshold, level=0.025)
    assert 7 < runs < 100
    settled = [
        paired_evidence(
            np.ones(runs), np.exp(rng.normal(few.estimate, few.sd, runs))
        ).p_above(threshold)
        <= 0.025
        for _ in range(300)
    ]
    assert np.mean(settled) > 0.7


def test_a_single_run_has_no_interval_and_no_p_value():
    evidence = unpaired_evidence([1.0], [2.0])
    assert evidence.interval(0.95) is None
    assert evidence.p_above(0.0) == 1.0
    assert evidence.estimate == pytest.approx(math.log(2))


def test_runs_that_repeat_one_rounded_value_are_not_infinitely_sure():
    evidence = paired_evidence([1.0] * 6, [1.0005] * 6)
    low, high = evidence.interval(0.95)
    assert low < 0 < high
