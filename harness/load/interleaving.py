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
from functools import partial
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


class _Active(threading.local):
    """What runs in each thread; None outside of a load that is interleaved."""

    hub: Hub | None = None


# Read where every operation passes: asking `current_hub` takes twice as long.
ACTIVE = _Active()


def current_hub() -> Hub | None:
    """Return the hub that runs in this thread now; None outside of one."""
    return ACTIVE.hub


class Hub:
    """Runs functions side by side in the calling thread; each may wait.

    Args:
        clock: Where the time comes from. On a manual clock a wait for a time moves
            it to the earliest one wanted, so that a run is a simulation.

    Attributes:
        clock: Its sleeps let others run.
        turns: How often the bodies that could run have had their turn.

    Raises:
        ConfigError: If this system has no epoll.
    """

    def __init__(self, clock: Clock) -> None:
        if not hasattr(select, "epoll"):
            msg = "interleaved=True needs epoll, which only Linux has: use threads"
            raise ConfigError(msg)
        self.clock = HubClock(self, clock)
        self.turns = 0
        self._system = clock
        self._now = clock.monotonic_ns
        self._greenlet: greenlet | None = None
        self._ready: deque[greenlet] = deque()
        self._sleeping: list[tuple[int, int, greenlet]] = []
        self._order = itertools.count()
        self._waiting: dict[int, greenlet] = {}
        self._muted: set[int] = set()
        self._outgoing: list[tuple[int, greenlet, Callable[..., Any], Any]] = []
        self._alive = 0
        self._epoll = select.epoll()
        self._timer = DescriptorTimer.open()
        self._armed_ns: int | None = None
        if self._timer is not None:
            self._epoll.register(self._timer.descriptor, _IN)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be this thread's hub for the length of a `with` block, then end."""
        ACTIVE.hub = self
        try:
            yield
        finally:
            ACTIVE.hub = None
            self._epoll.close()
            if self._timer is not None:
                self._timer.close()

    def run(self, bodies: Sequence[Callable[[], Any]]) -> None:
        """Run each body until all have returned.

        Raises:
            BaseException: What the first body to fail raised; the others are ended.
        """
        self._greenlet = getcurrent()
        self._alive = len(bodies)
        self._ready.extend(greenlet(partial(self._live, body)) for body in bodies)
        try:
            while self._alive:
                self._turn()
        finally:
            # Whoever is still waiting belongs to a run that has failed.
            self._ready.clear()
            self._sleeping.clear()
            self._waiting.clear()
            self._outgoing.clear()

    def watch(self, descriptor: int) -> None:
        """Keep a socket registered until it is closed, for `wait_watched`.

        Whoever opens another socket watches it too, whatever its number: that of a
        closed one is given out again.
        """
        self._muted.discard(descriptor)
        try:
            self._epoll.register(descriptor, _IN)
        except FileExistsError:
            self._epoll.modify(descriptor, _IN)

    def exchange(self, descriptor: int, send: Callable[..., Any], *args: Any) -> None:
        """Call ``send(*args)`` and let others run until the answer has come.

        What all workers send goes out together, once the answers at hand are dealt
        with. To send is to wake the other side, which may take this processor and
        leave nothing of ours in its caches: done after each answer, it costs an
        operation clearly more processor time.

        Args:
            descriptor: Of a socket that is watched.
            send: Sends without waiting.
            args: Its arguments.

        Raises:
            Exception: What *send* has raised.
        """
        self._outgoing.append((descriptor, getcurrent(), send, args))
        self._greenlet.switch()  # type: ignore[union-attr]  # `run` has set it

    def wait_watched(self, descriptor: int) -> None:
        """Let others run until a socket that is watched can be read.

        `wait` asks the system for each wait; this one has asked already.
        """
        self._await(descriptor, getcurrent())
        self._greenlet.switch()  # type: ignore[union-attr]  # `run` has set it

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
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        found: int = self._greenlet.switch()
        ready = (READABLE if found & ~_OUT else 0) | (WRITABLE if found & _OUT else 0)
        return ready & events or events  # an error shows in whatever is tried next

    def sleep_until_ns(self, deadline_ns: int) -> None:
        """Let others run until the clock reaches *deadline_ns*."""
        if deadline_ns <= self._now():
            return
        heapq.heappush(self._sleeping, (deadline_ns, next(self._order), getcurrent()))
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        self._greenlet.switch()

    def give_way(self) -> None:
        """Let everybody run who can."""
        self._ready.append(getcurrent())
        assert self._greenlet is not None  # noqa: S101  # `run` has set it
        self._greenlet.switch()

    def _live(self, body: Callable[[], Any]) -> None:
        """Run one body; what it raises ends the run."""
        body()
        self._alive -= 1

    def _turn(self) -> None:
        """Wait for something to happen and go on with whom it concerns."""
        self.turns += 1
        for _ in range(len(self._ready)):
            self._ready.popleft().switch()
        self._wake_sleepers()
        self._send_all()
        if not self._waiting:
            if self._sleeping and not self._ready and not self._outgoing:
                self._system.sleep_until_ns(self._sleeping[0][0])
            return
        waiting, sleeping, now = self._waiting, self._sleeping, self._now
        for descriptor, events in self._epoll.poll(self._timeout_s()):
            member = waiting.pop(descriptor, None)
            if member is not None:
                member.switch(events)
            else:
                self._nobody_waits(descriptor)
            # An arrival must not wait for all the answers that came together.
            if sleeping and sleeping[0][0] <= now():
                self._wake_sleepers()
                self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        """Send what there is to send, and have each worker wait for its answer."""
        outgoing, self._outgoing = self._outgoing, []
        for descriptor, member, send, args in outgoing:
            try:
                send(*args)
            except Exception as error:  # noqa: BLE001  # raised where it was asked for
                member.throw(error)
            else:
                self._await(descriptor, member)

    def _await(self, descriptor: int, member: greenlet) -> None:
        if descriptor in self._muted:
            self.watch(descriptor)
        self._waiting[descriptor] = member

    def _nobody_waits(self, descriptor: int) -> None:
        """Note an expiry of the timer; keep any other descriptor from waking us."""
        timer = self._timer
        if timer is not None and descriptor == timer.descriptor:
            timer.clear()
            self._armed_ns = None
        else:
            self._muted.add(descriptor)
            self._epoll.unregister(descriptor)

    def _wake_sleepers(self) -> None:
        sleeping = self._sleeping
        while sleeping and sleeping[0][0] <= self._now():
            heapq.heappop(sleeping)[2].switch()

    def _timeout_s(self) -> float | None:
        """Return how long epoll may wait, with the timer set for the rest."""
        if self._ready or self._outgoing:
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
