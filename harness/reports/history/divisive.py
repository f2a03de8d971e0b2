"""Change points of a series: E-divisive with a t-test, as Hunter does it.

Matteson and James (2014) split a series where the energy distance between both parts
is largest, and the parts again. Fleming et al. (2023) made that fit for nightly
benchmarks: windows, so that the past does not drown the present; Student's t in place
of random permutations, so that the answer is the same every time; and a second pass
that takes weak points back. tests/reports/history/test_oracle.py holds it against
Apache Otava.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.statistics.student import t_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

WINDOW = 50
# Hunter's own 0.001 finds a change in 3 to 4 of 100 series of noise, and a suite has
# hundreds of series. This finds one in fewer than 1, and a real step a night later.
P_MAX = 0.0001
# The first pass lets more through; the second one looks at each with its neighbours.
_WEAK_FACTOR = 10
# Levels closer than this are one level: values in reports are not better known.
MAGNITUDE_MIN = 0.03


@dataclass(frozen=True, slots=True)
class Split:
    """A place between two levels.

    Attributes:
        index: The first value of the second level.
        p_value: Of Student's t test between both.
        magnitude: Relative change, of the larger of both directions.
    """

    index: int
    p_value: float
    magnitude: float


def change_points(
    values: Sequence[float],
    *,
    p_max: float = P_MAX,
    magnitude_min: float = MAGNITUDE_MIN,
    window: int = WINDOW,
) -> list[Split]:
    """Return where a series of values above 0 changed its level, oldest first.

    Args:
        values: The series.
        p_max: Largest p-value of a change.
        magnitude_min: Smallest relative change.
        window: Values that are looked at together; half of it is the step.
    """
    series = np.log(np.asarray(values, dtype=np.float64))
    weak: set[int] = set()
    start = 0
    while start < len(series):
        part = series[start : start + window]
        found = [start + i for i in _divided(part, min(0.5, p_max * _WEAK_FACTOR))]
        weak.update(found)
        start = max(max(found, default=0), start + window // 2)
    return _merged(series, sorted(weak), p_max=p_max, magnitude_min=magnitude_min)


def _divided(series: npt.NDArray[np.float64], p_max: float) -> list[int]:
    """Split, and split the parts, for as long as the best split is significant."""
    if len(series) < 2:  # noqa: PLR2004  # nothing to split
        return []
    distances = np.abs(series[:, None] - series[None, :])
    # sums[i, j]: over the first i rows and j columns. Any block is then four reads.
    sums = np.zeros((len(series) + 1, len(series) + 1))
    sums[1:, 1:] = distances.cumsum(axis=0).cumsum(axis=1)
    found: list[int] = []
    while True:
        ends = [0, *found, len(series)]
        best = max(
            (
                _best_split(sums, low, high)
                for low, high in itertools.pairwise(ends)
                if high - low > 1
            ),
            default=None,
        )
        if best is None:
            return found
        _, index = best
        low = max(end for end in ends if end < index)
        high = min(end for end in ends if end > index)
        if _p_value(series[low:index], series[index:high]) > p_max:
            return found
        found = sorted([*found, index])


def _best_split(
    sums: npt.NDArray[np.float64], low: int, high: int
) -> tuple[float, int]:
    """Return the largest scaled energy distance in [low, high), and where it is.

    The second part may end before *high*: a level that does not last is found too.
    """
    splits = np.arange(low + 1, high)[:, None]
    ends = np.arange(low + 2, high + 1)[None, :]
    n, m = splits - low, np.maximum(ends - splits, 1)
    left = (sums[splits, splits] - 2 * sums[low, splits] + sums[low, low]) / 2
    right = (sums[ends, ends] - 2 * sums[splits, ends] + sums[splits, splits]) / 2
    across = sums[splits, ends] - sums[low, ends] - sums[splits, splits]
    across = across + sums[low, splits]
    # A part of one value has no distances inside.
    within = m * left / np.maximum(n - 1, 1) + n * right / np.maximum(m - 1, 1)
    energy = 2 / (n + m) * (across - within)
    energy = np.where(ends > splits, energy, -np.inf)
    row, _ = np.unravel_index(int(np.argmax(energy)), energy.shape)
    return float(energy.max()), int(row) + low + 1


def _p_value(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """Return the two-sided p-value of Student's t test; 1 with two values in all."""
    n, m = len(left), len(right)
    df = n + m - 2
    if df < 1:
        return 1.0
    squares = float(((left - left.mean()) ** 2).sum())
    squares += float(((right - right.mean()) ** 2).sum())
    distance = abs(float(left.mean() - right.mean()))
    error = math.sqrt(squares / df * (1 / n + 1 / m))
    if error <= 1e-12 * max(1.0, distance):
        return 0.0 if distance > 1e-12 else 1.0  # noqa: PLR2004  # rounding
    return min(1.0, 2 * t_tail(distance / error, df))


def _merged(
    series: npt.NDArray[np.float64],
    weak: list[int],
    *,
    p_max: float,
    magnitude_min: float,
) -> list[Split]:
    """Take the weakest points back until all that remain are strong."""
    indices = list(weak)
    while indices:
        ends = [0, *indices, len(series)]
        splits = []
        for place, index in enumerate(indices):
            left = series[ends[place] : index]
            right = series[index : ends[place + 2]]
            magnitude = math.expm1(abs(float(right.mean() - left.mean())))
            splits.append(Split(index, _p_value(left, right), magnitude))
        worst = max(splits, key=lambda split: split.p_value)
        if worst.p_value < p_max:
            worst = min(splits, key=lambda split: split.magnitude)
            if worst.magnitude > magnitude_min:
                return splits
        indices.remove(worst.index)
    return []


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through the logarithms of a series.

    Attributes:
        ratio: Its last end / its first.
        p_value: Of the Mann-Kendall test: that there is no trend.
        rest: Sum of squares that it leaves.
    """

    ratio: float
    p_value: float
    rest: float


def trend(values: Sequence[float]) -> Trend | None:
    """Fit a line that a few bad nights do not bend (Theil-Sen); None below 10."""
    series = np.log(np.asarray(values, dtype=np.float64))
    count = len(series)
    if count < 10:  # noqa: PLR2004  # the normal approximation needs as many
        return None
    first, second = np.triu_indices(count, k=1)
    slopes = (series[second] - series[first]) / (second - first)
    slope = float(np.median(slopes))
    rest = series - slope * np.arange(count)
    statistic = float(np.sign(slopes).sum())
    # Ties are too rare among measured values to correct for.
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    z = max(0.0, abs(statistic) - 1) / spread
    return Trend(
        ratio=math.exp(slope * (count - 1)),
        p_value=math.erfc(z / math.sqrt(2)),
        rest=float(((rest - np.median(rest)) ** 2).sum()),
    )


def rest_of_levels(values: Sequence[float], indices: Sequence[int]) -> float:
    """Return the sum of squares that constant levels between *indices* leave."""
    series = np.log(np.asarray(values, dtype=np.float64))
    parts = np.split(series, list(indices))
    return sum(float(((part - np.median(part)) ** 2).sum()) for part in parts)
