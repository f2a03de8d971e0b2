"""A timer that is a file descriptor: finer than the milliseconds that epoll counts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from harness.clock import NS_PER_S

_CLOCK_MONOTONIC = 1  # linux/time.h
_TFD_TIMER_ABSTIME = 1  # sys/timerfd.h
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


class DescriptorTimer:
    """Becomes readable at an absolute time of the clock the harness reads (Linux).

    Attributes:
        descriptor: What to wait for.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._libc = ctypes.CDLL(None, use_errno=True)

    @classmethod
    def open(cls) -> DescriptorTimer | None:
        """Open one of the clock of `time.perf_counter_ns`; None without timerfd."""
        if not sys.platform.startswith("linux"):
            return None
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
        return cls(descriptor) if descriptor >= 0 else None

    def arm(self, deadline_ns: int) -> None:
        """Expire at *deadline_ns*, and at no other time."""
        # A time of zero would switch the timer off.
        seconds, rest = divmod(max(1, deadline_ns), NS_PER_S)
        wanted = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(seconds, rest))
        self._libc.timerfd_settime(
            self.descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None
        )

    def clear(self) -> None:
        """Take note of an expiry, so that it is readable no more."""
        # Nothing to read: set anew since, and the next expiry will come.
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)
