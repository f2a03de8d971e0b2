"""Change points on series whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.reports.history.divisive import change_points, trend


def series(rng, levels, *, noise, nights=30):
    """Nights at each level in turn, with log-normal noise."""
    parts = [level * np.exp(rng.normal(0, noise, nights)) for level in levels]
    return np.concatenate(parts)


@pytest.mark.parametrize("step", [0.7, 0.9, 1.1, 1.5])
def test_a_step_is_found_where_it_is(step):
    found = change_points(series(np.random.default_rng(1), [1.0, step], noise=0.02))
    assert len(found) == 1
    assert abs(found[0].index - 30) <= 1
    larger = max(step, 1 / step)
    assert found[0].magnitude == pytest.approx(larger - 1, abs=0.03)


def test_several_steps_are_found_and_a_level_that_does_not_last_too():
    rng = np.random.default_rng(2)
    values = series(rng, [1.0, 1.2, 1.0, 1.5], noise=0.02)
    assert [s.index for s in change_points(values)] == pytest.approx(
        [30, 60, 90], abs=1
    )


def test_a_step_is_found_a_few_nights_after_it_happened():
    values = series(np.random.default_rng(3), [1.0, 1.1], noise=0.02)
    nights = next(n for n in range(31, 60) if change_points(values[:n]))
    assert nights - 30 <= 4


def test_noise_alone_has_no_change_points_in_99_of_100_series():
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(200):
        noise = rng.choice([0.01, 0.03, 0.08])
        alarms += bool(change_points(np.exp(rng.normal(0, noise, 100))))
    assert alarms / 200 <= 0.01


def test_one_slow_night_is_no_change():
    values = series(np.random.default_rng(5), [1.0, 1.0], noise=0.02)
    values[40] *= 1.8
    assert change_points(values) == []


def test_a_step_smaller_than_the_magnitude_is_left_alone():
    values = series(np.random.default_rng(6), [1.0, 1.02], noise=0.002)
    assert change_points(values) == []
    assert len(change_points(values, magnitude_min=0.01)) == 1


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_short_series_has_no_change_points(count):
    assert change_points([1.0, 5.0, 1.0][:count]) == []


def test_a_series_of_one_value_has_no_change_points():
    assert change_points([2.0] * 60) == []
    assert [s.index for s in change_points([2.0] * 30 + [3.0] * 30)] == [30]


def test_the_trend_is_that_of_scipy():
    values = np.exp(np.random.default_rng(7).normal(0, 0.05, 40) + 0.01 * np.arange(40))
    found = trend(values)
    slope = stats.theilslopes(np.log(values)).slope
    assert np.log(found.ratio) == pytest.approx(slope * 39)
    oracle = stats.kendalltau(np.arange(40), values, method="asymptotic")
    assert found.p_value == pytest.approx(oracle.pvalue, rel=0.3)
    assert trend(values[:9]) is None
