"""How much a stub can serve at once: slots, a queue, a start from zero."""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """The size of the endpoint a stub stands for.

    Attributes:
        slots: Answers it works on at once; 0 for no limit.
        queue: Questions that wait for a slot; one more is refused with 429 and a
            Retry-After that is true: the time until a slot is free.
        start_s: How long the first question after a start from zero finds no server
            and is refused with 503; 0 starts it ready.
        brownout_from_s: From so many seconds after the start of the run on, it has
            only *brownout_slots*.
        brownout_until_s: Up to so many seconds.
        brownout_slots: See above.
    """

    slots: int = 0
    queue: int = 0
    start_s: float = 0.0
    brownout_from_s: float = 0.0
    brownout_until_s: float = 0.0
    brownout_slots: int = 0

    def __post_init__(self) -> None:
        for name in (
            "slots",
            "queue",
            "start_s",
            "brownout_from_s",
            "brownout_until_s",
            "brownout_slots",
        ):
            if getattr(self, name) < 0 or not math.isfinite(getattr(self, name)):
                msg = f"{name} must be >= 0, got {getattr(self, name)}"
                raise ConfigError(msg)


class FullError(Exception):
    """No slot and no place in the queue.

    Attributes:
        free_in_s: Time until the next slot is free, in seconds.
    """

    def __init__(self, free_in_s: float) -> None:
        self.free_in_s = free_in_s
        super().__init__(f"free in {free_in_s:.3f} s")


class StartingError(Exception):
    """No server is running yet.

    Attributes:
        ready_in_s: Time until one is, in seconds.
    """

    def __init__(self, ready_in_s: float) -> None:
        self.ready_in_s = ready_in_s
        super().__init__(f"ready in {ready_in_s:.3f} s")


class Slots:
    """Hands out the slots of a `Capacity`, in order of arrival.

    Args:
        capacity: How many.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._busy = 0
        self._ends_ns: list[int] = []
        self._queue: deque[Callable[[int], None]] = deque()
        self._began_ns: int | None = None
        self._woken_ns: int | None = None

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return len(self._queue)

    def is_running(self, now_ns: int) -> bool:
        """Whether a server runs; looking does not start one."""
        if not self._capacity.start_s:
            return True
        woken_ns = self._woken_ns
        return woken_ns is not None and now_ns >= woken_ns + self._start_ns

    def enter(
        self, now_ns: int, begin: Callable[[int], None], *, takes_ns: int
    ) -> bool:
        """Take a slot, or a place in the queue; return whether it began at once.

        Args:
            now_ns: The time of arrival.
            begin: Called with the time when the slot is had, now or later.
            takes_ns: How long the slot will be held.

        Raises:
            StartingError: If no server is running; one starts for the first caller.
            FullError: If there is neither slot nor place.
        """
        if self._began_ns is None:
            self._began_ns = now_ns
        if self._capacity.start_s and not self.is_running(now_ns):
            if self._woken_ns is None:
                self._woken_ns = now_ns
            left_ns = self._woken_ns + self._start_ns - now_ns
            raise StartingError(left_ns / NS_PER_S)
        limit = self._limit(now_ns)
        if not limit or self._busy < limit:
            self._take(now_ns + takes_ns)
            begin(now_ns)
            return True
        if len(self._queue) >= self._capacity.queue:
            while self._ends_ns and self._ends_ns[0] <= now_ns:
                heapq.heappop(self._ends_ns)
            free_ns = (self._ends_ns[0] if self._ends_ns else now_ns) - now_ns
            raise FullError(free_ns / NS_PER_S)

        def begin_later(at_ns: int) -> None:
            self._take(at_ns + takes_ns)
            begin(at_ns)

        self._queue.append(begin_later)
        return False

    def leave(self, now_ns: int) -> None:
        """Give a slot back; the next in the queue gets it."""
        self._busy -= 1
        limit = self._limit(now_ns)
        while self._queue and (not limit or self._busy < limit):
            self._queue.popleft()(now_ns)

    def _take(self, ends_ns: int) -> None:
        self._busy += 1
        heapq.heappush(self._ends_ns, ends_ns)

    def _limit(self, now_ns: int) -> int:
        """Return the slots of now; 0 for no limit."""
        capacity = self._capacity
        if capacity.brownout_slots and self._began_ns is not None:
            at_s = (now_ns - self._began_ns) / NS_PER_S
            if capacity.brownout_from_s <= at_s < capacity.brownout_until_s:
                return capacity.brownout_slots
        return capacity.slots

    @property
    def _start_ns(self) -> int:
        return round(self._capacity.start_s * NS_PER_S)
