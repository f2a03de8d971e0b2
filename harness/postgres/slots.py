"""Who holds which connection: the bookkeeping that both pools share.

Nothing here locks, waits or does I/O. The pool of threads calls it under its lock,
the pool of tasks from its event loop; so one model test speaks for both.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from types import CodeType

    from harness.postgres.pool import PoolConfig

# Mass reconnection is avoided by lives that differ: 90 to 100 % of the longest.
LIFETIME_JITTER = 0.1


def counts_references(implementation: str, *, is_free_threaded: bool) -> bool:
    """Whether `sys.getrefcount` is exact: not on PyPy, nor without a GIL."""
    return implementation == "cpython" and not is_free_threaded


def _slot_references() -> int:
    """Return what `lost` sees of a slot that nobody has: the set, the loop, the call.

    Measured, because newer interpreters count what a call borrows differently.
    """
    for thing in {object()}:
        return sys.getrefcount(thing)
    raise AssertionError


COUNTS_REFERENCES = counts_references(
    sys.implementation.name,
    is_free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
)
SLOT_REFERENCES = _slot_references() if COUNTS_REFERENCES else 0


class Slot:
    """One open connection and the times that decide its fate.

    Attributes:
        connection: What callers get.
        pgconn: libpq's side of it, looked up once.
        handle: What the engine needs to close it.
        generation: The pool's when it was asked for; a drain counts it up.
        opened_ns: When it was opened.
        expires_ns: When it must be replaced; 0 is at once.
        returned_ns: When it was last given back.
        acquired_ns: When it was last taken.
        wait_ns: How long its present holder waited for it.
        place: Code and instruction that hold it, or None; see `line_of`.
        stack: The same of all callers, if leaks are traced.
        is_leak_told: Whether its present holder has been called a leak.
        signs: SQLSTATE of what its server said unasked, such as 57P01.
    """

    __slots__ = (
        "acquired_ns",
        "connection",
        "expires_ns",
        "generation",
        "handle",
        "is_leak_told",
        "opened_ns",
        "own_references",
        "pgconn",
        "place",
        "returned_ns",
        "signs",
        "stack",
        "wait_ns",
    )

    def __init__(
        self,
        connection: Any,
        handle: Any = None,
        *,
        generation: int = 0,
        opened_ns: int = 0,
        expires_ns: int = 0,
    ) -> None:
        self.connection = connection
        self.pgconn = connection.pgconn
        self.handle = handle
        self.generation = generation
        self.opened_ns = opened_ns
        self.expires_ns = expires_ns
        self.returned_ns = opened_ns
        self.acquired_ns = opened_ns
        self.wait_ns = 0
        self.place: tuple[CodeType, int] | None = None
        self.stack: tuple[tuple[CodeType, int], ...] | None = None
        self.is_leak_told = False
        self.signs: list[str] = []
        self.own_references: int | None = None


class Waiter(Protocol):
    """A caller in the queue."""

    is_gone: bool

    def hand(self, slot: Slot) -> None:
        """Wake the caller with a connection."""
        ...

    def fail(self, error: BaseException) -> None:
        """Wake the caller with the reason why it gets none."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A checkout that has been held for too long.

    Attributes:
        stack: Code and instruction of the holder and its callers; see `line_of`.
        held_ns: For how long.
    """

    stack: tuple[tuple[CodeType, int], ...]
    held_ns: int


@dataclass(kw_only=True)
class Counts:
    """Totals since the pool was opened."""

    checkout_timeouts: int = 0
    connect_failures: int = 0
    opened: int = 0
    closed: int = 0
    leaks: int = 0
    drains: int = 0


@dataclass
class Slots:
    """The connections of one pool, and the queue for them.

    While a connection is idle nobody waits: whatever comes free goes to the caller
    that has waited longest, and only without one to the top of the idle stack.
    Connections are taken from the top, so that the rest can grow old and go.

    Attributes:
        config: Sizes and times.
        idle: Free connections; the last one is the next.
        open: All connections, free or out.
        waiters: Callers in the order they came; some may be gone.
        waiting: Callers in the queue that are not gone.
        opening: Connections being opened; they count against the cap.
        generation: Counts drains.
        is_closed: Whether the pool is closed.
        is_probing: Whether an opener is trying again after a failure; no other
            connection is asked for meanwhile.
        failure: Why the latest connect failed; None once one has succeeded.
        counts: Totals.
    """

    config: PoolConfig
    idle: list[Slot] = field(default_factory=list)
    open: set[Slot] = field(default_factory=set)
    waiters: deque[Waiter] = field(default_factory=deque)
    waiting: int = 0
    opening: int = 0
    generation: int = 0
    is_closed: bool = False
    is_probing: bool = False
    failure: Exception | None = None
    counts: Counts = field(default_factory=Counts)

    @property
    def in_use(self) -> int:
        """Connections that are out."""
        return len(self.open) - len(self.idle)

    def queue(self, waiter: Waiter, *, first: bool = False) -> None:
        """Let a caller wait; *first* if it had a connection that proved dead."""
        self.waiting += 1
        if first:
            self.waiters.appendleft(waiter)
        else:
            self.waiters.append(waiter)

    def withdraw(self, waiter: Waiter) -> None:
        """Strike a caller that waits no longer; its place is skipped later."""
        waiter.is_gone = True
        self.waiting -= 1
        # A pool nobody comes back to must not collect those who gave up.
        while self.waiters and self.waiters[0].is_gone:
            self.waiters.popleft()

    def _next_waiter(self) -> Waiter | None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.is_gone:
                self.waiting -= 1
                return waiter
        return None

    def offer(self, slot: Slot, *, now_ns: int) -> bool:
        """Pass on a connection that came free; False if it must be closed."""
        slot.place = slot.stack = None
        slot.is_leak_told = False
        if slot.expires_ns <= now_ns and not self.must_keep(slot):
            return False
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.hand(slot)
        else:
            slot.returned_ns = now_ns
            self.idle.append(slot)
        return True

    def must_keep(self, slot: Slot) -> bool:
        """Whether an aged connection stays, because no other could be had now."""
        return slot.expires_ns > 0 and self.failure is not None

    def wanted(self) -> int:
        """Return how many connections to open now, and count them as opening."""
        if self.is_closed or self.is_probing:
            return 0
        missing = max(
            self.waiting - self.opening,
            self.config.size_min - len(self.open) - self.opening,
        )
        number = min(missing, self.config.size_max - len(self.open) - self.opening)
        if self.failure is not None:
            # One attempt at a time shows whether it is over.
            number = min(number, 1 - self.opening)
        number = max(0, number)
        self.opening += number
        return number

    def adopt(self, slot: Slot, *, now_ns: int) -> bool:
        """Take in a connection that was asked for; False if it must be closed."""
        self.opening -= 1
        self.is_probing = False
        self.failure = None
        self.open.add(slot)
        self.counts.opened += 1
        # No caller has it yet: these references are the pool's and the engine's.
        if COUNTS_REFERENCES:
            slot.own_references = sys.getrefcount(slot.connection)
        if slot.generation != self.generation or self.is_closed:
            return False
        # However short its life: it serves once, or a pool would open for ever.
        slot.expires_ns = max(slot.expires_ns, now_ns + 1)
        return self.offer(slot, now_ns=now_ns)

    def refused(self, error: Exception, *, is_permanent: bool, was_probe: bool) -> bool:
        """Note a failed connect; True if the same opener must try again.

        What time does not heal wakes every caller in the queue with the reason. Of
        openers that may try again only one does: the others would hammer.
        """
        self.counts.connect_failures += 1
        self.failure = error
        if was_probe:
            self.is_probing = False
        if is_permanent:
            while (waiter := self._next_waiter()) is not None:
                waiter.fail(error)
        elif not self.is_probing and self.is_short():
            self.is_probing = True
            return True
        self.opening -= 1
        return False

    def is_short(self) -> bool:
        """Whether a connection is needed that nobody is bringing back."""
        return not self.is_closed and bool(
            self.waiting or len(self.open) < self.config.size_min
        )

    def abandon_opening(self, *, was_probe: bool) -> None:
        """Give back the place of a connection that will not be opened."""
        self.opening -= 1
        if was_probe:
            self.is_probing = False

    def forget(self, slot: Slot) -> None:
        """Give back the place of a connection that has been closed."""
        self.open.discard(slot)
        self.counts.closed += 1

    def drain(self) -> list[Slot]:
        """Return the idle connections to close; those out follow when they return."""
        self.generation += 1
        self.counts.drains += 1
        for slot in self.open:
            slot.expires_ns = 0
        drained, self.idle[:] = list(self.idle), []
        return drained

    def close(self, error: BaseException) -> list[Slot]:
        """Refuse everybody from now on; return the idle connections to close."""
        self.is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.fail(error)
        return self.drain()

    def orphan(self) -> None:
        """Give out nothing more, in a forked child; close nothing either."""
        self.is_closed = True
        self.waiters.clear()
        self.waiting = self.opening = 0
        self.idle.clear()
        for slot in self.open:
            slot.expires_ns = 0

    def due(self, *, now_ns: int) -> list[Slot]:
        """Take out the idle connections whose time has come, oldest use first."""
        idle_max_ns = int(self.config.idle_max_s * NS_PER_S)
        due = [
            slot
            for slot in self.idle
            if (slot.expires_ns <= now_ns or now_ns - slot.returned_ns > idle_max_ns)
            and not self.must_keep(slot)
        ]
        for slot in due:
            self.idle.remove(slot)
        return due

    def lost(self) -> list[Slot]:
        """Return the connections that are out but that nobody can give back.

        A thread that ends, or code that drops what `__enter__` gave it, leaves a
        connection that only the pool still refers to; CPython's reference counts
        say so exactly. Where there are none, nothing is ever found.
        """
        idle = set(self.idle)
        found: list[Slot] = []
        for slot in self.open:
            if slot in idle or slot.own_references is None:
                continue
            # The set, the loop and the call: a holder would be one more.
            if sys.getrefcount(slot) <= SLOT_REFERENCES and (
                sys.getrefcount(slot.connection) <= slot.own_references
            ):
                found.append(slot)
        return found

    def overdue(self, *, now_ns: int) -> list[Leak]:
        """Return, once each, the checkouts that are longer than a leak."""
        limit_ns = int(self.config.leak_after_s * NS_PER_S)
        leaks: list[Leak] = []
        for slot in self.open if limit_ns else ():
            held_ns = now_ns - slot.acquired_ns
            if slot.stack and not slot.is_leak_told and held_ns > limit_ns:
                slot.is_leak_told = True
                self.counts.leaks += 1
                leaks.append(Leak(stack=slot.stack, held_ns=held_ns))
        return leaks

    def borrowed_at(self) -> list[str]:
        """Return `file:line in function` of every connection that is out."""
        return [line_of(*slot.place) for slot in self.open if slot.place is not None]


def line_of(code: CodeType, instruction: int) -> str:
    """Return `file:line in function`.

    Looked up when it is asked for: at the checkout itself it would cost a tenth.
    """
    number = code.co_firstlineno
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            number = line
            break
    return f"{code.co_filename}:{number} in {code.co_qualname}"
