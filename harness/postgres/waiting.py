"""How a thread waits for a connection, and gets the reason if there is none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.postgres.slots import Slot


class ThreadWaiter:
    """A thread in the queue; a lock is the cheapest thing that wakes one thread."""

    __slots__ = ("_gate", "error", "is_gone", "slot")

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.error: BaseException | None = None
        self.is_gone = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def hand(self, slot: Slot) -> None:
        """Wake the caller with a connection."""
        self.slot = slot
        self._gate.release()

    def fail(self, error: BaseException) -> None:
        """Wake the caller with the reason why it gets none."""
        self.error = error
        self._gate.release()

    def wait_until(self, deadline_ns: int) -> bool:
        """Wait to be woken; False when *deadline_ns* came first."""
        left_s = (deadline_ns - SYSTEM_CLOCK.monotonic_ns()) / NS_PER_S
        if left_s <= 0:
            return self._gate.acquire(blocking=False)
        return self._gate.acquire(timeout=min(left_s, threading.TIMEOUT_MAX))


def again(error: BaseException | None) -> BaseException:
    """Return an exception to raise in this thread: one shared would be a knot."""
    assert error is not None  # noqa: S101 - whoever got no connection got a reason
    twin = type(error).__new__(type(error))
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = True
    return twin
