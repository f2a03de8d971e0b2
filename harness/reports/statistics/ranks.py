"""Exact distributions of the two rank statistics under exchangeability."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@lru_cache(maxsize=256)
def signed_rank_tail(pairs: int) -> npt.NDArray[np.float64]:
    """Return P(W >= k) for k = 0 .. pairs (pairs + 1) / 2 + 1.

    W is Wilcoxon's signed-rank statistic: of all 2**n ways to swap the sides of the
    pairs, the share that gives at least k. That makes its test a sign-permutation
    test on ranks, exact whatever the distribution of the differences, as long as a
    pair could as well have been the other way round.
    """
    mass = np.ones(1)
    for rank in range(1, pairs + 1):
        grown = np.zeros(len(mass) + rank)
        grown[: len(mass)] += mass / 2
        grown[rank:] += mass / 2
        mass = grown
    return _tail(mass)


@lru_cache(maxsize=256)
def rank_sum_tail(first: int, second: int) -> npt.NDArray[np.float64]:
    """Return P(U >= k) for k = 0 .. first * second + 1.

    U is the Mann-Whitney statistic. Of all ways to deal the runs to the two sides,
    the share that gives at least k.
    """
    counts = [1] + [0] * (first * second)
    # The generating function of U is a Gaussian binomial coefficient: a product of
    # (1 - q**(first + i)) / (1 - q**i). Whole numbers, so nothing is rounded.
    for i in range(1, second + 1):
        step = first + i
        for k in range(len(counts) - 1, step - 1, -1):
            counts[k] -= counts[k - step]
        for k in range(i, len(counts)):
            counts[k] += counts[k - i]
    total = math.comb(first + second, second)
    return _tail(np.array([count / total for count in counts]))


def _tail(mass: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return P(X >= k), with a 0 for the k that cannot be reached."""
    tail = np.append(np.cumsum(mass[::-1])[::-1], 0.0)
    tail.setflags(write=False)
    return tail


def critical_value(tail: npt.NDArray[np.float64], level: float) -> int:
    """Return the least k with P(X >= k) <= level; the length where there is none.

    A tail this close to the level is at it: a sum of floats is not exact.
    """
    return int(np.searchsorted(-tail[:-1], -level * (1 + 1e-9), side="left"))
