"""Keys follow the distribution they are named after, and the seed they were given."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from scipy import stats

from harness.errors import ConfigError
from harness.postgres.keys import (
    HotSet,
    Latest,
    Sequential,
    Uniform,
    Zipf,
    fnv_hash,
    key_source,
    zeta,
)

DRAWS = 200_000
# With a fixed seed the value is fixed too; a wrong distribution gives 1e-20.
P_MIN = 0.001
ALL = [
    Uniform(count=1_000),
    Sequential(count=1_000),
    HotSet(count=1_000),
    Zipf(count=1_000),
    Zipf(count=1_000, scrambled=True),
    Latest(count=1_000),
]


def drawn(keys, *, draws=DRAWS, seed=7, worker=0):
    return list(islice(iter(key_source(keys, seed=seed, worker=worker), None), draws))


def counted(keys):
    return np.bincount(drawn(keys), minlength=keys.count)


def gray_probabilities(count, theta=0.99):
    """Where the inverse of Gray et al. puts the borders between ranks."""
    zeta_count = zeta(count, theta)
    second = 1 + 0.5**theta
    eta = (1 - (2 / count) ** (1 - theta)) / (1 - second / zeta_count)
    ranks = np.arange(2, count + 1)
    borders = ((ranks / count) ** (1 - theta) - 1 + eta) / eta
    return np.array([1, 0.5**theta, *np.diff(borders) * zeta_count]) / zeta_count


@pytest.mark.parametrize("keys", ALL, ids=str)
def test_seed_and_worker_decide_the_keys(keys):
    first = drawn(keys, draws=10_000)

    assert first == drawn(keys, draws=10_000)
    assert first != drawn(keys, draws=10_000, seed=8)
    assert first != drawn(keys, draws=10_000, worker=1)


@pytest.mark.parametrize("keys", ALL, ids=str)
def test_keys_are_whole_numbers_from_0_to_the_last(keys):
    found = set(drawn(keys))

    assert {type(key) for key in found} == {int}
    assert min(found) == 0
    assert 990 <= max(found) <= 999


@pytest.mark.parametrize(
    "make",
    [
        lambda count: Uniform(count=count),
        lambda count: Sequential(count=count),
        lambda count: Zipf(count=count),
        lambda count: Zipf(count=count, scrambled=True),
        lambda count: Latest(count=count),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_keys_are_enough(make, count):
    assert set(drawn(make(count), draws=2_000)) == set(range(count))


def test_uniform_keys_are_uniform():
    assert stats.chisquare(counted(Uniform(count=1_000))).pvalue > P_MIN


@pytest.mark.parametrize("theta", [0.5, 0.99])
@pytest.mark.parametrize("count", [10, 1_000])
def test_zipf_is_that_of_gray(count, theta):
    expected = gray_probabilities(count, theta)
    assert expected.sum() == pytest.approx(1)

    found = counted(Zipf(count=count, theta=theta))

    assert stats.chisquare(found, expected * DRAWS).pvalue > P_MIN


def test_zipf_is_near_the_law_itself():
    """What the docstring says of the approximation."""
    law = np.arange(1, 1_001) ** -0.99
    law /= law.sum()

    ratio = gray_probabilities(1_000) / law

    assert ratio[:2] == pytest.approx(1)
    assert 1.16 < ratio[2] < 1.21
    assert np.abs(ratio[9:40] - 1).max() < 0.04


def test_scrambled_zipf_is_that_of_ycsb():
    """Ranks of ten thousand million, hashed; popular keys lie apart."""
    assert zeta(10_000_000_000, 0.99) == pytest.approx(26.46902820178302, rel=1e-9)
    found = counted(Zipf(count=1_000, scrambled=True))

    first = int(fnv_hash(np.array([0]))[0] % 1_000)
    second = int(fnv_hash(np.array([1]))[0] % 1_000)
    assert list(np.argsort(found)[::-1][:2]) == [first, second]
    share = found[first] / DRAWS
    # The most popular rank, and what other ranks the hash puts on the same key.
    assert 1 / 26.47 < share < 1 / 26.47 + 0.005
    assert abs(first - second) > 1


def test_hash_is_fnv_of_eight_bytes():
    def reference(value):
        hashed = 0xCBF29CE484222325
        for _ in range(8):
            hashed = ((hashed ^ (value & 0xFF)) * 1099511628211) % 2**64
            value >>= 8
        return abs(hashed - 2**64 if hashed >= 2**63 else hashed)

    values = [0, 1, 255, 256, 10**9, 10**10 - 1]
    assert fnv_hash(np.array(values)).tolist() == [reference(v) for v in values]


def test_hot_keys_get_their_share():
    keys = HotSet(count=1_000, hot_share=0.1, hot_probability=0.75)
    found = counted(keys)

    assert stats.binomtest(int(found[:100].sum()), DRAWS, 0.75).pvalue > P_MIN
    assert stats.chisquare(found[:100]).pvalue > P_MIN
    assert stats.chisquare(found[100:]).pvalue > P_MIN


def test_latest_is_zipf_from_the_newest_down():
    found = counted(Latest(count=1_000))

    expected = gray_probabilities(1_000) * DRAWS
    assert stats.chisquare(found[::-1], expected).pvalue > P_MIN


def test_sequential_keys_go_round():
    keys = Sequential(count=5, first=3)

    assert drawn(keys, draws=8) == [3, 4, 0, 1, 2, 3, 4, 0]
    assert set(counted(Sequential(count=1_000))) <= {200}


@pytest.mark.parametrize("count", [1, 999, 1_000, 1_001, 50_000])
@pytest.mark.parametrize("theta", [0.0, 0.5, 0.99])
def test_zeta_is_the_sum(count, theta):
    exact = sum(1 / k**theta for k in range(1, count + 1))
    assert zeta(count, theta) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Uniform(count=0), "count must be >= 1, got 0"),
        (lambda: Latest(count=0), "count must be >= 1"),
        (lambda: HotSet(count=1), "count must be >= 2"),
        (lambda: HotSet(count=9, hot_share=0), "hot_share must be above 0"),
        (lambda: HotSet(count=9, hot_probability=1.1), "hot_probability must be"),
        (lambda: Zipf(count=9, theta=1.0), "theta must be 0 or more and below 1"),
    ],
)
def test_impossible_distribution_is_refused(make, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make()
