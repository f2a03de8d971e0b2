"""Sleeping to an absolute time inside an event loop, finer than a millisecond."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.load.timer import DescriptorTimer

if TYPE_CHECKING:
    from harness.clock import Clock


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
        self._timer = DescriptorTimer.open()
        if self._timer is not None:
            self._loop.add_reader(self._timer.descriptor, self._expired)

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
            self._loop.remove_reader(self._timer.descriptor)
            self._timer.close()
            self._timer = None

    def _expired(self) -> None:
        if self._timer is not None:
            self._timer.clear()
        now_ns = self._clock.monotonic_ns()
        while self._waiting and self._waiting[0][0] <= now_ns:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
        self._arm()

    def _arm(self) -> None:
        if self._waiting and self._timer is not None:
            self._timer.arm(self._waiting[0][0])
