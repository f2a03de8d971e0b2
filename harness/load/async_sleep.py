"""Sleeping to an absolute time inside an event loop, finer than a millisecond."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import itertools
import os
import sys
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.clock import Clock

_CLOCK_MONOTONIC = 1  # linux/time.h
_TFD_TIMER_ABSTIME = 1  # sys/timerfd.h
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


class Sleeper:
    """Wakes coroutines at absolute times; one for each event loop.

    asyncio rounds every sleep up to the next millisecond, because epoll counts in
    them: about 0.6 ms of start delay on average. A timer that is a file descriptor
    (timerfd, Linux) wakes the same loop within tens of microseconds. Elsewhere
    asyncio's own timers are used, and the start delay shows it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._timer = _open_timer()
        if self._timer is not None:
            self._loop.add_reader(self._timer, self._expired)

    async def until_ns(self, deadline_ns: int) -> None:
        """Wait until the clock reaches *deadline_ns*; the past returns at once."""
        left_ns = deadline_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            return
        if self._timer is None:
            await asyncio.sleep(left_ns / NS_PER_S)
            return
        future = self._loop.create_future()
        heapq.heappush(self._waiting, (deadline_ns, next(self._order), future))
        if self._waiting[0][2] is future:
            self._arm()
        await future

    def close(self) -> None:
        """Give the timer back."""
        if self._timer is not None:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = None

    def _expired(self) -> None:
        if self._timer is not None:
            # Nothing to read: set anew since, and the next expiry will come.
            with contextlib.suppress(BlockingIOError):
                os.read(self._timer, 8)
        now_ns = self._clock.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
        self._arm()

    def _arm(self) -> None:
        if not self._waiting or self._timer is None:
            return
        # A time of zero would switch the timer off.
        seconds, rest = divmod(max(1, self._waiting[0][0]), NS_PER_S)
        wanted = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(seconds, rest))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.timerfd_settime(
            self._timer, _TFD_TIMER_ABSTIME, ctypes.byref(wanted), None
        )


def _open_timer() -> int | None:
    """Open a timer of the clock that `time.perf_counter_ns` reads on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
    return descriptor if descriptor >= 0 else None
