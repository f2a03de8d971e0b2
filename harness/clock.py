"""The only caller of the operating system's clocks."""

from __future__ import annotations

import ctypes
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
_PR_SET_TIMERSLACK = 29  # linux/prctl.h


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

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Wait until `monotonic_ns` reaches *deadline_ns*; the past returns at once."""
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

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Wait until `monotonic_ns` reaches *deadline_ns*; the past returns at once."""
        while (left_ns := deadline_ns - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)


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

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Advance to *deadline_ns* at once; the past changes nothing."""
        self._elapsed_ns = max(self._elapsed_ns, deadline_ns)

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


def sharpen_timers() -> bool:
    """Ask for the shortest timer slack for the calling thread; say whether it took.

    Linux lets a sleeping thread's timer fire up to 50 us late so that wake-ups can
    be joined; a load generator that starts operations on a schedule passes that on
    as start delay. Other systems have no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    slack_ns = 1
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_TIMERSLACK, slack_ns, 0, 0, 0) == 0)
