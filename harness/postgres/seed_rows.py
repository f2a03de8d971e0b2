"""The rows of the seeded table, in COPY's binary format.

Every value follows from the row's number. In text, making the lines was most of what
seeding took, and the server had to read every time and amount again; here only the
number and the time of a row are written anew, all rows of a batch at once.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

USERS = 10_000
PRODUCTS = 1_000
CATEGORIES = 20
STATUSES = ("pending", "active", "completed", "cancelled")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

# In this order, so that what differs in every row is at the same place in it.
COPIED = "id, created_at, updated_at, user_id, product_id, category, amount, status"
COPIED_COUNT = 8
# All other values come round after as many rows: the least common multiple.
PERIOD = 100_000

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_US_PER_S = 1_000_000
_EPOCH_US = round((EPOCH - POSTGRES_EPOCH).total_seconds()) * _US_PER_S
# A row: its number of fields, then before each field its length.
_ROW_START = struct.Struct("!h i i i q i q i i i i")
_PAD_AT = {"id": 6, "created_at": 14, "updated_at": 26}
_WIDTHS = {"id": ">i4", "created_at": ">i8", "updated_at": ">i8"}


class SeedRows:
    """Makes the rows, in batches.

    Args:
        rows: How many there will be.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._patterns = [_pattern(i) for i in range(min(rows, PERIOD))]
        self._lengths = np.array([len(each) for each in self._patterns])

    def batches(self, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield how many rows there are so far, and the bytes of the next ones."""
        for first in range(0, self._rows, size):
            last = min(first + size, self._rows)
            yield last, self._batch(np.arange(first, last))

    def _batch(self, numbers: npt.NDArray[np.int64]) -> bytes:
        places = numbers % PERIOD
        patterns = self._patterns
        data = np.frombuffer(
            bytearray().join([patterns[place] for place in places.tolist()]),
            dtype=np.uint8,
        )
        lengths = self._lengths[places]
        starts = np.cumsum(lengths) - lengths
        times_us = _EPOCH_US + numbers * _US_PER_S
        values = {"id": numbers + 1, "created_at": times_us, "updated_at": times_us}
        for name, at in _PAD_AT.items():
            width = np.dtype(_WIDTHS[name]).itemsize
            written = values[name].astype(_WIDTHS[name]).view(np.uint8)
            where = starts[:, np.newaxis] + np.arange(at, at + width)
            data[where] = written.reshape(-1, width)
        return data.tobytes()


def _pattern(i: int) -> bytes:
    """Return row number *i*, with zeros where number and times will be."""
    category = f"category_{i % CATEGORIES}".encode()
    amount = _numeric(i * 7919 % 100_000)
    status = STATUSES[i % len(STATUSES)].encode()
    start = _ROW_START.pack(
        COPIED_COUNT, 4, 0, 8, 0, 8, 0, 4, i % USERS, 4, i % PRODUCTS
    )
    texts = [
        struct.pack("!i", len(value)) + value for value in (category, amount, status)
    ]
    return b"".join([start, *texts])


def _numeric(cents: int) -> bytes:
    """Return an amount as Postgres sends a numeric: digits to the base of 10,000."""
    whole, rest = divmod(cents, 100)
    digits = [whole, rest * 100]
    weight = 0
    if not whole:
        digits, weight = digits[1:], -1
    while digits and not digits[-1]:
        digits.pop()
    if not digits:
        weight = 0
    return struct.pack(f"!4h{len(digits)}h", len(digits), weight, 0, 2, *digits)
