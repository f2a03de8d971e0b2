"""Many workers in one thread: each runs until it waits, then the next one does.

Threads of one process hand the interpreter lock from one to the other at every answer
of the server, and pay for it; here one thread asks the system which answers have come
and goes on with their workers. An operation is written as if it blocked: where it
would, a driver calls `Hub.wait` with its file descriptor.
"""

from __future__ import annotations

import heapq
import itertools
import select
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from harness.errors import ConfigError
from harness.load.timer import DescriptorTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from harness.clock import Clock

READABLE, WRITABLE = 1, 2  # as psycopg numbers them, and poll(2) does not
_IN, _OUT = 0x001, 0x004  # linux/eventpoll.h
_ONESHOT = 1 << 30
_EVENTS = {
    READABLE: _IN | _ONESHOT,
    WRITABLE: _OUT | _ONESHOT,
    READABLE | WRITABLE: _IN | _OUT | _ONESHOT,
}

_active = threading.local()


def current_hub() -> Hub | None:
    """Return the hub that runs in this thread now; None outside of one."""
    hub: Hub | None = getattr(_active, "hub", None)
    return hub


class Hub:
    """Runs functions side by side in the calling thread; each may wait.

    Args:
        clock: Where the time comes from. On a manual clock a wait for a time moves
            it to the earliest one wanted, so that a run is a simulation.

    Raises:
        ConfigError: If this system has no epoll.
    """

    def __init__(self, clock: Clock) -> None:
        if not hasattr(select, "epoll"):
            msg = "interleaved=True needs epoll, which only Linux has: use threads"
            raise ConfigError(msg)
        self.clock = HubClock(self, clock)
        self.switches = 0
        self._system = clock
        self._now = clock.monotonic_ns
        self._greenlet: greenlet | None = None
        self._ready: deque[greenlet] = deque()
        self._sleeping: list[tuple[int, int, greenlet]] = []
        self._order = itertools.count()
        self._waiting: dict[int, greenlet] = {}
        self._epoll = select.epoll()
        self._timer = DescriptorTimer.open()
        self._armed_ns: int | None = None
        if self._timer is not None:
            self._epoll.register(self._timer.descriptor, _IN)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be this thread's hub for the length of a `with` block, then end."""
        _active.hub = self
        try:
            yield
        finally:
            _active.hub = None
            self._epoll.close()
            if self._timer is not None:
                self._timer.close()

    def run(self, bodies: Sequence[Callable[[], Any]]) -> None:
        """Run each body until all have returned.

        Raises:
            BaseException: What the first body to fail raised; the others are ended.
        """
        self._greenlet = getcurrent()
        crowd = [greenlet(body) for body in bodies]
        self._ready.extend(crowd)
        try:
            while not all(member.dead for member in crowd):
                self._turn()
        finally:
            # Whoever is still waiting belongs to a run that has failed.
            self._ready.clear()
            self._sleeping.clear()
            self._waiting.clear()

    def wait(self, descriptor: int, events: int = READABLE) -> int:
        """Let others run until *descriptor* is ready; return for what it is.

        Args:
            descriptor: A socket; one body at a time may wait for it.
            events: `READABLE`, `WRITABLE` or both together.
        """
        wanted = _EVENTS[events]
        # One shot: a socket that nobody waits for must not wake anybody. Not kept
        # from one wait to the next: its number may be another socket's by then.
        try:
            self._epoll.modify(descriptor, wanted)
        except FileNotFoundError:
            self._epoll.register(descriptor, wanted)
        self._waiting[descriptor] = getcurrent()
        self.switches += 1
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        found: int = self._greenlet.switch()
        ready = (READABLE if found & ~_OUT else 0) | (WRITABLE if found & _OUT else 0)
        return ready & events or events  # an error shows in whatever is tried next

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Let others run until the clock reaches *deadline_ns*."""
        if deadline_ns <= self._now():
            return
        heapq.heappush(self._sleeping, (deadline_ns, next(self._order), getcurrent()))
        self.switches += 1
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        self._greenlet.switch()

    def give_way(self) -> None:
        """Let everybody run who can."""
        self._ready.append(getcurrent())
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        self._greenlet.switch()

    def _turn(self) -> None:
        """Wait for something to happen and go on with whom it concerns."""
        for _ in range(len(self._ready)):
            self._ready.popleft().switch()
        self._wake_sleepers()
        if not self._waiting:
            if self._sleeping and not self._ready:
                self._system.sleep_until_ns(self._sleeping[0][0])
            return
        timer = self._timer
        for descriptor, events in self._epoll.poll(self._timeout_s()):
            if timer is not None and descriptor == timer.descriptor:
                timer.clear()
                self._armed_ns = None
                continue
            member = self._waiting.pop(descriptor, None)
            if member is not None:
                member.switch(events)
            # An arrival must not wait for all the answers that came together.
            self._wake_sleepers()

    def _wake_sleepers(self) -> None:
        sleeping = self._sleeping
        while sleeping and sleeping[0][0] <= self._now():
            heapq.heappop(sleeping)[2].switch()

    def _timeout_s(self) -> float | None:
        """Return how long epoll may wait, with the timer set for the rest."""
        if self._ready:
            return 0
        if not self._sleeping:
            return None
        deadline_ns = self._sleeping[0][0]
        if self._timer is not None:
            if self._armed_ns != deadline_ns:
                self._timer.arm(deadline_ns)
                self._armed_ns = deadline_ns
            return None
        return max(0, deadline_ns - self._now()) / 1e9


class HubClock:
    """A clock whose sleeps let other bodies of a hub run."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._clock = clock
        self.monotonic_ns = clock.monotonic_ns
        self.process_cpu_ns = clock.process_cpu_ns

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """Let others run for *seconds*; 0 or less returns at once."""
        if seconds > 0:
            self._hub.sleep_until_ns(self.monotonic_ns() + round(seconds * 1e9))

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Let others run until the clock reaches *deadline_ns*."""
        self._hub.sleep_until_ns(deadline_ns)
