"""What a stream is fed: row i is a function of (seed, i), and due at a known time.

So the rows a stream got can be made again, by the oracle that judges its tables and
by the source after a crash; and from the rows of a micro-batch alone it is known how
long each of them waited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import ConfigError
from harness.load.trace import TraceArrivals
from harness.spark.noise import bits, shuffled_in_blocks, uniform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from harness.load.schedules import RateProfile
    from harness.spark.noise import Floats, Index, Keys

# Few enough that a chunk stays in the processor's cache.
ROWS_PER_CHUNK = 32_768
DEFAULT_RATE_PER_S = 1000.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a feed, as a data set sees them.

    Attributes:
        seed: The feed's.
        index: Which rows, in the order they are sent; a duplicate repeats one.
        time_us: Event time of each, in microseconds since 1970.
    """

    seed: int
    index: Index
    time_us: Index

    def uniform(self, name: str) -> Floats:
        """Return a number in [0, 1) for each row; each *name* is independent."""
        return uniform(self.seed, name, self.index)

    def between(self, name: str, low: float, high: float, *, digits: int) -> Floats:
        """Return a number from *low* to *high* for each row, rounded."""
        rounded: Floats = np.round(low + (high - low) * self.uniform(name), digits)
        return rounded

    def keys(self, name: str, keys: Keys) -> Index:
        """Return a key for each row."""
        return keys.of(self.uniform(name))

    def choice(self, name: str, values: Sequence[Any]) -> pa.Array:
        """Return one of *values* for each row, each as likely."""
        import pyarrow as pa

        # 32 bits choose among few; Arrow's lookup is fastest with 32 as well.
        chosen = bits(self.seed, name, self.index) % np.uint64(len(values))
        return pa.array(values).take(pa.array(chosen.astype(np.int32)))


class Dataset(Protocol):
    """The columns of a feed."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types."""
        ...

    def columns(self, rows: Rows) -> Mapping[str, Any]:
        """Return an array for each column, from `rows` alone."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """Rows of a data set in the order, and at the times, they reach a stream.

    Attributes:
        dataset: The columns.
        seed: The same seed gives the same rows.
        rows_count: How many rows there are.
        schedule: When each row is due; default 1000 rows per second, evenly.
        disorder_rows: Rows are sent in shuffled blocks of this many.
        late_share: Share of rows whose event time lies before they are due, 0-1.
        late_max_s: By how much at most, in seconds.
        duplicates_share: Share of rows that repeat one of the rows before, 0-1.
        duplicates_distance: How many rows before at most.
        starts_at: When the first row is due.
    """

    dataset: Dataset
    seed: int
    rows_count: int
    schedule: RateProfile | TraceArrivals | None = None
    disorder_rows: int = 1
    late_share: float = 0.0
    late_max_s: float = 0.0
    duplicates_share: float = 0.0
    duplicates_distance: int = 1000
    starts_at: datetime = EPOCH

    def __post_init__(self) -> None:
        if self.rows_count < 1:
            msg = f"rows_count must be >= 1, got {self.rows_count}"
            raise ConfigError(msg)
        for name in ("late_share", "duplicates_share"):
            if not 0 <= getattr(self, name) < 1:
                msg = f"{name} must be in 0..1 (exclusive), got {getattr(self, name)}"
                raise ConfigError(msg)
        if (
            self.late_max_s < 0
            or self.disorder_rows < 1
            or self.duplicates_distance < 1
        ):
            msg = (
                f"late_max_s={self.late_max_s} must be >= 0, disorder_rows="
                f"{self.disorder_rows} and duplicates_distance="
                f"{self.duplicates_distance} >= 1"
            )
            raise ConfigError(msg)
        if self.rows_count % self.disorder_rows:
            msg = (
                f"rows_count must be whole blocks of disorder_rows="
                f"{self.disorder_rows}, got {self.rows_count}"
            )
            raise ConfigError(msg)
        if self.schedule is not None and self.rows_count > _rows_in(self.schedule):
            msg = (
                f"rows_count must be at most what the schedule holds, "
                f"{_rows_in(self.schedule)}, got {self.rows_count}"
            )
            raise ConfigError(msg)

    def rows(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """Yield rows *start* to *end* (exclusive), the same ones on every call."""
        import pyarrow as pa

        schema = self.dataset.schema
        for first in range(start, end, ROWS_PER_CHUNK):
            last = min(first + ROWS_PER_CHUNK, end)
            columns = self.dataset.columns(self._content(first, last))
            arrays = [
                pa.array(columns[field.name]).cast(field.type) for field in schema
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def table(self, end: int | None = None) -> pa.Table:
        """Return all rows, or those before *end*, for an oracle to judge by."""
        import pyarrow as pa

        last = self.rows_count if end is None else end
        return pa.Table.from_batches(self.rows(0, last), self.dataset.schema)

    def due_s(self, index: Index) -> Floats:
        """Return when rows are due, in seconds after the first one could be."""
        if isinstance(self.schedule, TraceArrivals):
            return np.array(self.schedule.offsets_ns, np.int64)[index] / NS_PER_S
        if self.schedule is None:
            return index / DEFAULT_RATE_PER_S
        return self.schedule.times_s(index.astype(np.float64))

    def due_count(self, elapsed_s: float) -> int:
        """Return how many rows are due after *elapsed_s* seconds."""
        if elapsed_s < 0:
            return 0
        if self.schedule is None:
            count = elapsed_s * DEFAULT_RATE_PER_S
        elif isinstance(self.schedule, TraceArrivals):
            offsets_ns = np.array(self.schedule.offsets_ns, np.int64)
            due = np.searchsorted(offsets_ns, elapsed_s * NS_PER_S, "right")
            return min(int(due), self.rows_count)
        else:
            count = _integral(self.schedule, elapsed_s)
        # Row i is due when the integral reaches i: at time 0, one row is.
        return min(math.floor(count) + 1, self.rows_count)

    def _content(self, start: int, end: int) -> Rows:
        place = np.arange(start, end, dtype=np.int64)
        index = shuffled_in_blocks(
            self.seed, self._originals(place), block_size=self.disorder_rows
        )
        due_s = self.due_s(index)
        if self.late_share:
            is_late = uniform(self.seed, "is late", index) < self.late_share
            delay_s = uniform(self.seed, "delay", index) * self.late_max_s
            due_s = due_s - np.where(is_late, delay_s, 0.0)
        start_us = round(self.starts_at.timestamp() * _US_PER_S)
        return Rows(self.seed, index, start_us + (due_s * _US_PER_S).astype(np.int64))

    def _originals(self, place: Index) -> Index:
        """Return, for each place, the place of the row it repeats, or itself."""
        if not self.duplicates_share:
            return place
        found = place
        while True:
            repeats = uniform(self.seed, "is duplicate", found) < self.duplicates_share
            repeats &= found > 0
            if not repeats.any():
                return found
            distance = bits(self.seed, "distance", found) % np.uint64(
                self.duplicates_distance
            )
            earlier = np.maximum(found - 1 - distance.astype(np.int64), 0)
            found = np.where(repeats, earlier, found)


def _rows_in(schedule: RateProfile | TraceArrivals) -> int:
    if isinstance(schedule, TraceArrivals):
        return len(schedule.offsets_ns)
    # An arrival at the very end would be outside: the end is exclusive.
    return math.ceil(schedule.expected_count - 1e-9)


def _integral(profile: RateProfile, elapsed_s: float) -> float:
    """Rows expected until *elapsed_s*: the area under the rate."""
    total = 0.0
    left_s = elapsed_s
    for length_s, start_per_s, end_per_s in profile.pieces:
        if left_s <= 0:
            break
        taken_s = min(left_s, length_s)
        slope = (end_per_s - start_per_s) / length_s
        total += taken_s * (start_per_s + slope * taken_s / 2)
        left_s -= length_s
    return total
