"""A log-linear histogram of durations that merges by addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Sequence

# 2**7 sub-buckets per octave: a bucket is at most 1/128 of its value wide, so its
# midpoint is within 1/256 = 0.4 % of every value in it.
SUB_BUCKET_BITS = 7
_SUB_BUCKETS = 1 << SUB_BUCKET_BITS
# Above this a float64 no longer holds every integer; 2**52 ns are 52 days.
_VALUE_MAX = (1 << 52) - 1
_BUCKETS = (52 - SUB_BUCKET_BITS + 1) * _SUB_BUCKETS


def bucket_index(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the bucket of each value.

    Values below 128 have a bucket each. From there on every octave
    [2**e, 2**(e+1)) is cut into 128 equal buckets (the scheme of HdrHistogram,
    Tene 2012).
    """
    _, exponent = np.frexp(values.astype(np.float64))
    shift = np.maximum(exponent.astype(np.int64) - 1 - SUB_BUCKET_BITS, 0)
    # values >> shift is below 128 in the linear part, in 128..255 above it.
    return (shift << SUB_BUCKET_BITS) + (values >> shift)


def bucket_bounds(
    index: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the lowest and the highest value of each bucket."""
    shift = np.maximum((index >> SUB_BUCKET_BITS) - 1, 0)
    low = (index - (shift << SUB_BUCKET_BITS)) << shift
    return low, low + (np.int64(1) << shift) - 1


@dataclass(frozen=True, slots=True)
class LogLinearHistogram:
    """Counts of durations in nanoseconds; quantiles are within 0.4 %.

    Attributes:
        counts: Samples per bucket, shape (5888,), int64.
        value_max: Largest value recorded, exactly; 0 when empty.
        value_min: Smallest value recorded, exactly; 0 when empty.
    """

    counts: npt.NDArray[np.int64]
    value_min: int = 0
    value_max: int = 0

    @classmethod
    def of(cls, values_ns: npt.NDArray[np.int64]) -> LogLinearHistogram:
        """Count *values_ns*, shape (n,), each in 0 .. 2**52 - 1.

        Raises:
            ValueError: If a value is out of range; nothing is clipped silently.
        """
        if len(values_ns) == 0:
            return cls(np.zeros(_BUCKETS, dtype=np.int64))
        low, high = int(values_ns.min()), int(values_ns.max())
        if low < 0 or high > _VALUE_MAX:
            msg = f"durations must be in 0..{_VALUE_MAX} ns, got {low}..{high}"
            raise ValueError(msg)
        counts = np.bincount(bucket_index(values_ns), minlength=_BUCKETS)
        return cls(counts.astype(np.int64), low, high)

    def __len__(self) -> int:
        return int(self.counts.sum())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogLinearHistogram):
            return NotImplemented
        return self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # holds an array: equal, not hashable

    @classmethod
    def merged(cls, parts: Sequence[LogLinearHistogram]) -> LogLinearHistogram:
        """Add histograms; the result is the same in whatever order they come."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return cls.of(np.array([], dtype=np.int64))
        return cls(
            np.sum([part.counts for part in filled], axis=0, dtype=np.int64),
            min(part.value_min for part in filled),
            max(part.value_max for part in filled),
        )

    def quantile(self, q: float) -> float:
        """Return the value in ns below or at which a share *q* of the samples lies.

        Raises:
            ValueError: If the histogram is empty or *q* is not in 0..1.
        """
        total = len(self)
        if not total or not 0 <= q <= 1:
            msg = f"needs samples and 0 <= q <= 1, got {total} samples and q={q}"
            raise ValueError(msg)
        if q == 0:
            return float(self.value_min)
        rank = max(1, int(np.ceil(q * total)))
        index = np.searchsorted(np.cumsum(self.counts), rank)
        low, high = bucket_bounds(np.array([index], dtype=np.int64))
        middle = (int(low[0]) + int(high[0])) / 2
        return float(min(max(middle, self.value_min), self.value_max))

    def quantiles(self, q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return `quantile` of many shares at once, shape (n,), in ns."""
        ranks = np.maximum(1, np.ceil(q * len(self)).astype(np.int64))
        low, high = bucket_bounds(np.searchsorted(np.cumsum(self.counts), ranks))
        middle: npt.NDArray[np.float64] = (low + high) / 2
        return np.clip(middle, self.value_min, self.value_max)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: filled buckets only, each index as step from the last."""
        filled = np.flatnonzero(self.counts)
        return {
            "encoding": "log-linear",
            "unit": "ns",
            "sub_bucket_bits": SUB_BUCKET_BITS,
            "min": self.value_min,
            "max": self.value_max,
            "index_steps": np.diff(filled, prepend=0).tolist(),
            "counts": self.counts[filled].tolist(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LogLinearHistogram:
        """Read what `to_json` wrote.

        Raises:
            ReportError: If the data is of another encoding or damaged.
        """
        try:
            if (data["encoding"], data["unit"], data["sub_bucket_bits"]) != (
                "log-linear",
                "ns",
                SUB_BUCKET_BITS,
            ):
                msg = (
                    f"histogram encoding {data['encoding']!r} with "
                    f"{data['sub_bucket_bits']} sub-bucket bits cannot be read"
                )
                raise ReportError(msg)
            counts = np.zeros(_BUCKETS, dtype=np.int64)
            filled = np.cumsum(np.array(data["index_steps"], dtype=np.int64))
            counts[filled] = np.array(data["counts"], dtype=np.int64)
            if (counts < 0).any():
                msg = "histogram holds a negative count"
                raise ReportError(msg)
            return cls(counts, int(data["min"]), int(data["max"]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, ReportError):
                raise
            msg = f"histogram is damaged: {type(error).__name__}: {error}"
            raise ReportError(msg) from error
