"""No quantile is printed that the number of samples cannot support."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.load import QUANTILES, samples_needed, supported_quantiles


@pytest.mark.parametrize(
    ("q", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)]
)
def test_samples_needed_is_where_the_interval_gets_an_upper_end(q, needed):
    assert samples_needed(q) == needed
    # scipy as oracle: P(all n samples lie below the quantile) <= 2.5 %.
    assert stats.binom.pmf(needed, needed, q) <= 0.025
    assert stats.binom.pmf(needed - 1, needed - 1, q) > 0.025


@pytest.mark.parametrize("count", [1, 5, 6, 71, 72, 367, 368, 3687, 3688])
def test_unsupported_quantiles_are_absent(count):
    found = supported_quantiles(np.arange(count, dtype=np.int64))
    assert set(found) == {k for k, q in QUANTILES.items() if samples_needed(q) <= count}


def test_values_are_those_of_numpy():
    values = np.random.default_rng(2).exponential(size=5000)
    found = supported_quantiles(values)
    assert found["p99"] == np.quantile(values, 0.99)
    assert list(found) == ["p50", "p90", "p95", "p99", "p99_9"]
