"""A planted scalability curve is found again, and a fit says that it is one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from harness.errors import ConfigError
from harness.load.usl import fit_scalability

CALLERS = (1, 2, 4, 8, 16, 32, 64)


def planted(*, rate=1000.0, contention=0.05, coherency=0.001, noise=0.0, seed=1):
    random = np.random.default_rng(seed)
    return {
        n: rate
        * n
        / (1 + contention * (n - 1) + coherency * n * (n - 1))
        * math.exp(random.normal(0, noise))
        for n in CALLERS
    }


@pytest.mark.parametrize("contention", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("coherency", [0.0, 0.0005, 0.02])
def test_a_planted_curve_is_found_exactly(contention, coherency):
    fit = fit_scalability(planted(contention=contention, coherency=coherency))
    assert fit.rate_per_s == pytest.approx(1000)
    assert fit.contention == pytest.approx(contention, abs=1e-9)
    assert fit.coherency == pytest.approx(coherency, abs=1e-9)
    assert fit.r_squared == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_curve_gives_the_parameters_near_enough_to_find_its_peak(seed):
    fit = fit_scalability(planted(noise=0.03, seed=seed))
    assert fit.peak_callers == pytest.approx(math.sqrt(0.95 / 0.001), rel=0.2)
    assert fit.r_squared > 0.97
    assert min(fit.contention, fit.coherency) >= 0


def test_the_constrained_solution_is_that_of_non_negative_least_squares():
    """Faster than linear at first: without the constraint sigma would be negative."""
    measured = {1: 800.0, 2: 2100.0, 4: 4300.0, 8: 8000.0, 16: 9000.0}
    fit = fit_scalability(measured)
    n = np.array(list(measured), dtype=float)
    x = np.array(list(measured.values()))
    columns = np.column_stack((np.ones_like(n), n - 1, n * (n - 1)))
    a, b, c = optimize.nnls(columns * (x / n)[:, None], np.ones_like(n))[0]
    assert fit.rate_per_s == pytest.approx(1 / a)
    assert fit.contention == pytest.approx(b / a, abs=1e-12)
    assert fit.coherency == pytest.approx(c / a)


def test_a_peak_beyond_what_was_measured_is_marked():
    measured = {n: x for n, x in planted().items() if n <= 16}
    fit = fit_scalability(measured)
    assert fit.at(16).extrapolated is False
    assert fit.at(17).extrapolated
    assert fit.at(16).throughput_per_s == pytest.approx(measured[16])
    assert "EXTRAPOLATED: 1 to 16 were measured" in fit.describe()
    assert "a fit, not a measurement" in fit.describe()
    assert "EXTRAPOLATED" not in fit_scalability(planted()).describe()


def test_a_curve_that_never_falls_has_no_peak():
    fit = fit_scalability(planted(coherency=0.0))
    assert fit.coherency == pytest.approx(0, abs=1e-9)
    linear = fit_scalability({n: 10.0 * n for n in CALLERS})
    assert linear.peak_callers is None
    assert "no peak" in linear.describe()


def test_throughput_that_only_falls_peaks_at_one_caller():
    fit = fit_scalability({1: 1000.0, 2: 700.0, 4: 400.0, 8: 210.0})
    assert fit.peak_callers == 1


def test_a_flat_curve_explains_nothing():
    fit = fit_scalability(dict.fromkeys(CALLERS, 500.0))
    assert fit.contention == pytest.approx(1)
    assert fit.r_squared <= 1


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({1: 10.0, 2: 19.0, 4: 30.0}, "needs 4 numbers of callers"),
        ({1: 10.0, 2: 0.0, 4: 30.0, 8: 40.0}, "throughputs > 0"),
        ({0: 10.0, 2: 5.0, 4: 30.0, 8: 40.0}, "1 caller or more"),
    ],
)
def test_what_cannot_be_fitted_says_so(measured, words):
    with pytest.raises(ConfigError, match=words):
        fit_scalability(measured)
