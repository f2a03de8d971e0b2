"""Confidence intervals of quantiles, whatever the distribution."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.load.histogram import bucket_bounds
from harness.load.quantiles import QUANTILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from harness.load.histogram import LogLinearHistogram

CONFIDENCE = 0.95
# Neighbouring samples resemble each other, so a run is cut into batches to see how
# much: many, because a variance of few is a guess; few, because a batch must be longer
# than a queue lasts. Both are done and the larger answer counts. The factor beside each
# is what Student's t asks for a variance of so many: (t / 1.96) ** 2 at 97.5 %.
BATCHES = {32: 1.083, 10: 1.332}
# Above this quantile, what a run shows of the dependence is no less than before it.
FLOORED_ABOVE = 0.9
# Shorter, and the batches are too short to show any dependence.
SAMPLES_FOR_BATCHES = 320


def interval_ranks(
    count: int, q: float, *, confidence: float = CONFIDENCE
) -> tuple[int, int] | None:
    """Return which of *count* sorted samples bound quantile *q*, from 1; or None.

    Of n independent samples, the number below the quantile is binomial (n, q)
    whatever the distribution, so the two order statistics at its tails enclose the
    quantile (David and Nagaraja, Order Statistics, 2003, section 7.1). None if
    there are too few: see `samples_needed`.
    """
    tail = (1 - confidence) / 2
    if count < 1 or q**count > tail or (1 - q) ** count > tail:
        return None
    first, cumulated = _binomial(count, q)
    low = first + int(np.searchsorted(cumulated, tail, side="left"))
    high = first + int(np.searchsorted(cumulated, 1 - tail, side="left")) + 1
    return low, min(high, count)


def quantile_interval(
    ordered: npt.NDArray[np.float64] | npt.NDArray[np.int64],
    q: float,
    *,
    confidence: float = CONFIDENCE,
    dependence: float = 1.0,
) -> tuple[float, float] | None:
    """Return the interval of quantile *q*, in the unit of the values; or None.

    Args:
        ordered: The samples, sorted.
        q: Share of samples at or below.
        confidence: How often the interval encloses the true quantile.
        dependence: How many samples are worth one independent one; see `dependence`.
    """
    ranks = _stretched_ranks(len(ordered), q, confidence, dependence)
    if ranks is None:
        return None
    return float(ordered[ranks[0] - 1]), float(ordered[ranks[1] - 1])


def histogram_interval(
    histogram: LogLinearHistogram,
    q: float,
    *,
    confidence: float = CONFIDENCE,
    dependence: float = 1.0,
) -> tuple[float, float] | None:
    """Return the interval of quantile *q* in ns; or None.

    The ends are the outer bounds of their buckets, so what the histogram rounds
    away widens the interval.
    """
    ranks = _stretched_ranks(len(histogram), q, confidence, dependence)
    if ranks is None:
        return None
    found = np.searchsorted(np.cumsum(histogram.counts), np.array(ranks))
    low, high = bucket_bounds(found.astype(np.int64))
    return (
        float(max(low[0], histogram.value_min)),
        float(min(high[1], histogram.value_max)),
    )


def dependence(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64], quantile: float
) -> float:
    """Return how many successive samples are worth one independent one, at least 1.

    In a queue the next caller waits about as long as the last, so a thousand samples
    know less than a thousand independent ones and an interval that ignores this is
    too narrow. The estimate is the variance of the share of samples above
    *quantile* between batches, over the variance it had if they were independent
    (batch means; Law, Simulation Modeling and Analysis, section 9.5), raised by what
    its own uncertainty asks for. It sees dependence only over less than a batch, a
    tenth of the run.

    Args:
        values: The samples in the order of their arrival.
        quantile: The value at which the interval is wanted.
    """
    if len(values) < SAMPLES_FOR_BATCHES:
        return 1.0
    found = [1.0]
    for batches, factor in BATCHES.items():
        size = len(values) // batches
        above = values[: size * batches].reshape(batches, size) > quantile
        share = float(above.mean())
        if 0.0 < share < 1.0:
            between = float(np.var(above.mean(axis=1), ddof=1))
            found.append(factor * between * size / (share * (1 - share)))
    return max(found)


def dependences(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64],
) -> dict[str, float]:
    """Return `dependence` at each of p50..p99.9.

    Where few samples lie above a value, they show their dependence only in a run that
    saw several of its long queues. In one that did not, the estimate is too small
    together with the quantile, so that just those runs were sure of themselves that
    were wrong. The quantile before has two to ten times as many samples above it, and
    the dependence of a queue is nearly the same at both (in M/M/1 at 0.8 it is 61 at
    p90, 66 at p95 and 72 at p99), so in the tail each is taken to be at least what it
    is at the one before.

    Args:
        values: The samples in the order of their arrival.
    """
    return _dependences(values, np.sort(values)) if len(values) else {}


def quantile_intervals(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64],
    *,
    confidence: float = CONFIDENCE,
) -> dict[str, tuple[float, float]]:
    """Return the intervals of p50..p99.9, in the unit of *values*.

    One that the samples cannot support is left out, so there may be a quantile
    without an interval where the samples depend on each other much: run longer.

    Args:
        values: The samples in the order of their arrival.
        confidence: How often an interval encloses the true quantile.
    """
    ordered: npt.NDArray[Any] = np.sort(values)
    worth = _dependences(values, ordered) if len(values) else {}
    found = {
        key: quantile_interval(
            ordered, q, confidence=confidence, dependence=worth.get(key, 1.0)
        )
        for key, q in QUANTILES.items()
    }
    return {key: interval for key, interval in found.items() if interval is not None}


def histogram_intervals(
    histogram: LogLinearHistogram,
    *,
    confidence: float = CONFIDENCE,
    dependence: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, tuple[float, float]]:
    """Return the intervals of p50..p99.9 in ns.

    Args:
        histogram: The samples, whose order is forgotten.
        confidence: How often an interval encloses the true quantile.
        dependence: What `dependences` said while the order was known; samples are
            taken to be independent where it says nothing.
    """
    found = {
        key: histogram_interval(
            histogram, q, confidence=confidence, dependence=dependence.get(key, 1.0)
        )
        for key, q in QUANTILES.items()
    }
    return {key: interval for key, interval in found.items() if interval is not None}


def _dependences(
    values: npt.NDArray[Any], ordered: npt.NDArray[Any]
) -> dict[str, float]:
    found: dict[str, float] = {}
    before = 1.0
    for key, q in QUANTILES.items():
        value = ordered[max(0, math.ceil(q * len(ordered)) - 1)]
        found[key] = dependence(values, float(value))
        if q > FLOORED_ABOVE:
            found[key] = max(found[key], before)
        before = found[key]
    return found


def _stretched_ranks(
    count: int, q: float, confidence: float, dependence: float
) -> tuple[int, int] | None:
    """Return the ranks that as many independent samples as it is worth would give."""
    worth = int(count / max(1.0, dependence))
    ranks = interval_ranks(worth, q, confidence=confidence)
    if ranks is None or worth == count:
        return ranks
    low, high = ranks
    stretch = count / worth
    return max(1, math.floor(low * stretch)), min(count, math.ceil(high * stretch))


def _binomial(count: int, q: float) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the binomial distribution function where it is not 0 or 1.

    The first number of successes, and the distribution function from there. Exact
    to rounding: successive probabilities have a known ratio, and their sum is 1;
    beyond 12 standard deviations lies less than 1e-15 of it.
    """
    spread = 12 * math.sqrt(count * q * (1 - q)) + 60
    first = max(0, math.floor(count * q - spread))
    last = min(count, math.ceil(count * q + spread))
    k = np.arange(first, last, dtype=np.float64)
    logs = np.concatenate(
        ([0.0], np.cumsum(np.log((count - k) / (k + 1)) + math.log(q / (1 - q))))
    )
    weights = np.exp(logs - logs.max())
    cumulated: npt.NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return first, cumulated
