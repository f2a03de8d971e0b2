"""The only caller of the operating system's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """What the harness asks of time; pass a `ManualClock` to test without waiting."""

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never goes back; only differences count."""
        ...

    def process_cpu_ns(self) -> int:
        """Nanoseconds of CPU time used by this process, all threads."""
        ...

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*; 0 or less returns at once."""
        ...


class SystemClock:
    """The machine's own clocks."""

    # Bound once: the engine reads it several times per operation.
    monotonic_ns = staticmethod(time.perf_counter_ns)
    process_cpu_ns = staticmethod(time.process_time_ns)

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait for *seconds*; 0 or less returns at once."""
        if seconds > 0:
            time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to, for tests.

    Args:
        start: The wall-clock time it begins at.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_ns = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds advanced since the clock was made."""
        return self._elapsed_ns

    def process_cpu_ns(self) -> int:
        """Return 0: nothing runs on this clock."""
        return 0

    def now(self) -> datetime:
        """Return the start time plus what was advanced."""
        return self._start + timedelta(microseconds=self._elapsed_ns / 1000)

    def sleep(self, seconds: float) -> None:
        """Advance by *seconds* at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: If *seconds* is negative; this clock never goes back.
        """
        if seconds < 0:
            msg = f"seconds must be >= 0, got {seconds}"
            raise ValueError(msg)
        self._elapsed_ns += round(seconds * NS_PER_S)


SYSTEM_CLOCK = SystemClock()
