"""Checkout: the `with` block of the pool for threads, its fast way written out."""

# A checkout and its pool are one thing in two classes.
# ruff: noqa: SLF001

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from harness.postgres.slot_pool import SlotPool
    from harness.postgres.slots import Slot

monotonic_ns = SYSTEM_CLOCK.monotonic_ns


class Checkout:
    """One `with` block. A class: a generator would cost another 0.5 us."""

    __slots__ = ("_pool", "_slot", "_timeout_s")

    def __init__(self, pool: SlotPool, timeout_s: float | None = None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._slot: Slot | None = None

    def __enter__(self) -> Any:
        """Borrow a connection and note the caller's line."""
        pool = self._pool
        started_ns = monotonic_ns()
        try:
            with pool._lock:
                slot = self._slot = pool._idle.pop() if pool._idle else None
            if slot is None:
                slot = self._slot = pool._wait(started_ns, self._timeout_s)
            elif started_ns - slot.returned_ns > pool._trusted_ns:
                self._slot = None
                slot = self._slot = pool._proven(slot, started_ns, self._timeout_s)
            frame = sys._getframe(1)
            slot.place = (frame.f_code, frame.f_lasti)
            if pool._traces:
                slot.stack = callers(frame)
            slot.acquired_ns = now_ns = monotonic_ns()
            slot.wait_ns = now_ns - started_ns
        except BaseException:
            if self._slot is not None:
                self.__exit__(None, None, None)
            raise
        return slot.connection

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the connection back; a second time does nothing."""
        slot = self._slot
        if slot is None:
            return
        self._slot = None
        pool = self._pool
        now_ns = monotonic_ns()
        if (
            exc is None
            # 0 is idle: no transaction is open and the connection is not broken.
            and not slot.pgconn.transaction_status
            and slot.connection.autocommit
            and slot.expires_ns > now_ns
        ):
            with pool._lock:
                samples = pool._meter.samples
                samples.append(slot.wait_ns)
                samples.append(now_ns - slot.acquired_ns)
                # Looked at again: a drain may have come between.
                if not pool._waiters and slot.expires_ns:
                    slot.returned_ns = now_ns
                    slot.place = None
                    pool._idle.append(slot)
                    slot = None
            if slot is not None:
                pool._pass_on(slot, now_ns)
            if len(samples) >= pool._buffer_length:
                pool._fold()
        else:
            pool._settle(slot, exc, now_ns)


def callers(frame: FrameType | None) -> tuple[tuple[CodeType, int], ...]:
    """Return code and instruction of a frame and all that called it."""
    stack = []
    while frame is not None:
        stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(stack)
