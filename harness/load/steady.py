"""Was the run steady: where its warm-up ends, and whether it drifts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Shorter, and neither a trend nor a warm-up can be told from chance.
SECONDS_NEEDED = 9


def warmup_length(series: npt.NDArray[np.float64]) -> int:
    """Return how many leading values look like warm-up.

    The marginal standard error rule: leave out the first d values for which the
    standard error of the mean of the rest is smallest (White 1997, MSER). It never
    leaves out more than half; a minimum there means that the series never settled.
    """
    count = len(series)
    if count < SECONDS_NEEDED:
        return 0
    errors = [
        float(np.var(series[cut:])) / (count - cut) for cut in range(count // 2 + 1)
    ]
    return int(np.argmin(errors))


def warmup_share(series: npt.NDArray[np.float64]) -> float:
    """Return the share of the series that looks like warm-up, 0 to 0.5.

    Counted only where leaving it out halves the variance: the minimum of a steady
    series lies somewhere by chance.
    """
    cut = warmup_length(series)
    whole = float(np.var(series)) if len(series) else 0.0
    if cut == 0 or float(np.var(series[cut:])) > whole / 2:
        return 0.0
    return cut / len(series)


def drift(series: npt.NDArray[np.float64]) -> float:
    """Return the mean of the last third against that of the first, minus 1."""
    if len(series) < SECONDS_NEEDED:
        return 0.0
    third = len(series) // 3
    first, last = float(series[:third].mean()), float(series[-third:].mean())
    return last / first - 1 if first else 0.0
