"""Arrivals at recorded times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import ConfigError
from harness.load.schedules import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.load.samples import Nanoseconds

# The longest trace: what a histogram of nanoseconds holds, 52 days.
TRACE_MAX_NS = (1 << 52) - 1
S_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class TraceArrivals:
    """Arrivals at recorded times.

    Attributes:
        offsets_ns: Offsets from the start of the run, non-decreasing.
        name: Where they come from.
    """

    offsets_ns: tuple[int, ...]
    name: str

    def __post_init__(self) -> None:
        if not self.offsets_ns:
            msg = f"trace {self.name}: holds no arrivals"
            raise ConfigError(msg)
        # Before they become an array, which holds no more than 292 years.
        if self.offsets_ns[0] < 0 or max(self.offsets_ns) > TRACE_MAX_NS:
            days = TRACE_MAX_NS / NS_PER_S / S_PER_DAY
            msg = (
                f"trace {self.name}: arrivals must be between 0 and {days:.0f} days "
                f"after its start, got {self.offsets_ns[0] / NS_PER_S:g} to "
                f"{max(self.offsets_ns) / NS_PER_S:g} s; a trace is in seconds"
            )
            raise ConfigError(msg)
        back = np.flatnonzero(np.diff(np.array(self.offsets_ns, dtype=np.int64)) < 0)
        if len(back):
            msg = (
                f"trace {self.name}: must not go back in time, and arrival "
                f"{back[0] + 1} comes before the one ahead of it"
            )
            raise ConfigError(msg)

    @property
    def duration_s(self) -> float:
        """Length in seconds: just past the last arrival."""
        return (self.offsets_ns[-1] + 1) / NS_PER_S

    @property
    def rate_per_s_max(self) -> float:
        """Arrivals of the busiest second, by the clock of the trace."""
        seconds = np.array(self.offsets_ns, dtype=np.int64) // NS_PER_S
        return float(np.unique(seconds, return_counts=True)[1].max())

    def chunks(self) -> Iterator[Nanoseconds]:
        """Yield offsets from the start of the run, in ns, non-decreasing."""
        for first in range(0, len(self.offsets_ns), CHUNK):
            yield np.array(self.offsets_ns[first : first + CHUNK], dtype=np.int64)

    def describe(self) -> str:
        """Return one line for a report."""
        return f"trace {self.name}, {len(self.offsets_ns)} arrivals"


def trace_arrivals(path: Path | str) -> TraceArrivals:
    """Read a trace: one offset in seconds per line, `#` starts a comment.

    The first arrival becomes the start of the run.

    Raises:
        ConfigError: If the file cannot be read, is empty, or a line is no number or
            goes back in time; the message names the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"trace {path} cannot be read: {error}"
        raise ConfigError(msg) from None
    offsets_s: list[float] = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            offset_s = float(text)
        except ValueError:
            msg = f"trace {path}:{number}: must be seconds, got {text!r}"
            raise ConfigError(msg) from None
        if not math.isfinite(offset_s):
            msg = f"trace {path}:{number}: must be a finite number, got {text!r}"
            raise ConfigError(msg)
        if offsets_s and offset_s < offsets_s[-1]:
            msg = f"trace {path}:{number}: must not go back in time, got {text}"
            raise ConfigError(msg)
        if offsets_s and (offset_s - offsets_s[0]) * NS_PER_S > TRACE_MAX_NS:
            days = TRACE_MAX_NS / NS_PER_S / S_PER_DAY
            msg = (
                f"trace {path}:{number}: must be within {days:.0f} days of the first "
                f"arrival, got {text}; a trace is in seconds"
            )
            raise ConfigError(msg)
        offsets_s.append(offset_s)
    if not offsets_s:
        msg = f"trace {path}: holds no arrivals"
        raise ConfigError(msg)
    first_s = offsets_s[0]
    return TraceArrivals(
        tuple(round((offset_s - first_s) * NS_PER_S) for offset_s in offsets_s),
        path.name,
    )
