"""Quantiles, and how many samples one needs before it may be printed."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# Key in reports -> share of samples at or below.
QUANTILES = MappingProxyType(
    {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
)


def samples_needed(q: float) -> int:
    """Return the fewest samples for which quantile *q* has a bounded interval.

    The distribution-free interval of a quantile lies between two order statistics
    (David and Nagaraja, Order Statistics, 2003, section 7.1). Its upper end exists
    at 97.5 % one-sided confidence only if the largest of n samples lies above the
    quantile that often: 1 - q**n >= 0.975. That asks for 6 samples for p50, 72
    for p95, 368 for p99 and 3,688 for p99.9.
    """
    return math.ceil(math.log(0.025) / math.log(q))


def supported_quantiles(
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64],
) -> dict[str, float]:
    """Return p50..p99.9 of *values*, in their unit, leaving out the unsupported.

    A quantile that the number of samples cannot support is absent rather than
    wrong: p99.9 of 500 samples is only their maximum under another name.
    """
    supported = {k: q for k, q in QUANTILES.items() if len(values) >= samples_needed(q)}
    if not supported:
        return {}
    found = np.quantile(values, list(supported.values()))
    return {key: float(value) for key, value in zip(supported, found, strict=True)}
