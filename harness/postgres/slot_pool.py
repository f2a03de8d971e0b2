"""The pool for threads: fair, bounded, and quick to say why it has nothing."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError, TargetError
from harness.postgres.checkout import Checkout
from harness.postgres.forking import watch
from harness.postgres.meter import BUFFER_LENGTH, Meter
from harness.postgres.pool import PoolStats
from harness.postgres.pool_log import Teller, tell_drain, tell_leaks, tell_lost
from harness.postgres.slots import Slot, Slots
from harness.postgres.supply import Supply
from harness.postgres.upkeep import keep_up, upkeep_interval_s
from harness.postgres.waiting import ThreadWaiter, again

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from harness.postgres.opening import Engine
    from harness.postgres.pool import PoolConfig, PoolMetrics


# An idle connection is looked at, without a round trip, after this long. One that
# dies in its holder's hands unseen, or within this time of coming back, can reach
# the next caller dead: that caller's first statement fails, and nothing is lost.
TRUSTED_NS = 10_000_000
# What a server says when it goes away: shutdown, crash, its disk is gone.
GOING_AWAY = frozenset({"57P01", "57P02"})
# A ping that is not answered by then finds the connection dead.
PING_TIMEOUT_S = 5.0


class SlotPool:
    """Connections for threads, whichever library opens them.

    Whoever has waited longest is served first; connections are opened by threads
    of the pool, many at a time, and never more than `size_max`. A refusal that time
    does not heal is raised in every caller at once. Other failures to connect are
    tried again in the background, and are the reason given when a checkout times
    out.

    A connection that was idle for more than 10 ms is looked at before it is given
    out, and pinged where that was longer than `liveness_idle_s`. One that came back
    within 10 ms is given out as it is: if it died meanwhile, the first statement says.

    Args:
        engine: Opens and closes its connections.
        config: Sizes and times.
        name: Name of the pool, for messages.

    Raises:
        TargetError: The server refused a connection, with its reason.
        ConfigError: The server cannot serve a pool of this size.
        CredentialError: No password could be had.
    """

    def __init__(self, engine: Engine, config: PoolConfig, *, name: str) -> None:
        self.name = name
        self.config = config
        self._engine = engine
        self._closed_why = "is closed"
        self._lock = threading.Lock()
        self._slots = Slots(config)
        # For the fast way, without another look-up.
        self._idle = self._slots.idle
        self._waiters = self._slots.waiters
        self._meter = Meter()
        self._teller = Teller(name)
        self._buffer_length = BUFFER_LENGTH
        self._trusted_ns = min(TRUSTED_NS, int(config.liveness_idle_s * NS_PER_S))
        self._traces = config.leak_after_s > 0
        self._supply = Supply(
            engine, self._slots, self._lock, meter=self._meter, config=config, name=name
        )
        watch(self)
        try:
            self._supply.start()
        except BaseException:
            self.close()
            raise
        threading.Thread(
            target=keep_up,
            args=(weakref.ref(self), self._supply.closing, upkeep_interval_s(config)),
            name=f"pool-{name}-upkeep",
            daemon=True,
        ).start()

    def checkout(self, timeout_s: float | None = None) -> Checkout:
        """Borrow a psycopg connection for the length of a `with` block.

        A transaction left open at the end of the block is rolled back, never
        committed. Settings made with SET stay.

        Args:
            timeout_s: Longest wait in seconds, 0 for none at all; default is the
                pool's `checkout_timeout_s`.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        return Checkout(self, timeout_s)

    def stats(self) -> PoolStats:
        """Return the live state."""
        with self._lock:
            slots = self._slots
            return PoolStats(
                size=len(slots.open),
                size_max=self.config.size_max,
                in_use=slots.in_use,
                idle=len(slots.idle),
                waiting=slots.waiting,
                opening=slots.opening,
            )

    def metrics(self) -> PoolMetrics:
        """Return totals and distributions since the pool was opened."""
        self._fold()
        with self._lock:
            return self._meter.metrics(self._slots.counts, in_use=self._slots.in_use)

    @property
    def in_use(self) -> int:
        """Connections checked out now."""
        return self._slots.in_use

    @property
    def waiting(self) -> int:
        """Callers asking for a connection now."""
        return self._slots.waiting

    def borrowed_at(self) -> list[str]:
        """Return `file:line in function` of every connection checked out now."""
        with self._lock:
            return self._slots.borrowed_at()

    def drain(self) -> None:
        """Replace every connection: idle ones now, others when they come back."""
        with self._lock:
            drained = self._slots.drain()
        self._supply.discard(drained)

    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        with self._lock:
            idle = self._slots.close(self._closed_error())
        self._supply.close()
        self._supply.discard(idle)

    def orphan(self, engine: Engine, *, parent: int) -> None:
        """Give up, in a forked child, what is the parent's.

        Called before anything else runs there. A lock may have been held by a thread
        that is not here, so there are new ones.

        Args:
            engine: Takes the old one's place, and touches no connection.
            parent: Process that keeps the pool.
        """
        self._closed_why = (
            f"was opened by process {parent} and came here by fork, where its "
            "connections cannot be used: open a pool in each process, after the fork"
        )
        self._lock = threading.Lock()
        self._engine = engine
        self._slots.orphan()
        self._meter.orphan()
        self._supply.orphan(engine, self._lock)

    def maintain(self, *, now_ns: int | None = None) -> None:
        """Do what time asks for: replace what is old, name leaks, take back losses.

        A thread of the pool calls it now and then; calling it is never wrong.

        Args:
            now_ns: The time that ages are measured by; default is the clock's.
        """
        if now_ns is None:
            now_ns = SYSTEM_CLOCK.monotonic_ns()
        with self._lock:
            due = self._slots.due(now_ns=now_ns)
            leaks = self._slots.overdue(now_ns=now_ns)
        tell_leaks(self.name, leaks)
        self._supply.discard(due)
        self._reclaim()
        self._fold()
        self._supply.grow()

    # -- taking and giving, beside the fast way in Checkout ---------------------

    def _wait(
        self, started_ns: int, timeout_s: float | None, *, first: bool = False
    ) -> Slot:
        """Queue for a connection; *first* is a caller that got a dead one."""
        limit_s = self.config.checkout_timeout_s if timeout_s is None else timeout_s
        waiter = ThreadWaiter()
        slots = self._slots
        with self._lock:
            if slots.is_closed:
                raise self._closed_error()
            if slots.idle:
                return slots.idle.pop()
            slots.queue(waiter, first=first)
            number = slots.wanted()
        try:
            self._supply.order(number)
            deadline_ns = started_ns + int(limit_s * NS_PER_S)
            # Half-way, look whether a connection has been lost by its holder.
            if not waiter.wait_until(started_ns + (deadline_ns - started_ns) // 2):
                self._reclaim()
                waiter.wait_until(deadline_ns)
        except BaseException:
            self._leave(waiter)
            raise
        with self._lock:
            if waiter.slot is None and waiter.error is None:
                waiter.error = self._timeout_error(since_ns=started_ns)
                waiter.error.__cause__ = slots.failure
                slots.counts.checkout_timeouts += 1
                slots.withdraw(waiter)
        if waiter.slot is None:
            if isinstance(waiter.error, CheckoutTimeoutError):
                self._teller.timed_out(waiter.error)
            raise again(waiter.error)
        return waiter.slot

    def _leave(self, waiter: ThreadWaiter) -> None:
        """Take a caller out of the queue that was interrupted while it waited."""
        with self._lock:
            if waiter.slot is None and waiter.error is None:
                self._slots.withdraw(waiter)
        if waiter.slot is not None:
            self._pass_on(waiter.slot, SYSTEM_CLOCK.monotonic_ns())

    def _proven(self, slot: Slot, started_ns: int, timeout_s: float | None) -> Slot:
        """Return a connection that lives: this one, or the next that does."""
        liveness_ns = int(self.config.liveness_idle_s * NS_PER_S)
        while True:
            is_stale = started_ns - slot.returned_ns > liveness_ns
            try:
                is_alive = self._engine.is_alive(
                    slot.connection, timeout_s=PING_TIMEOUT_S if is_stale else None
                )
            except BaseException:
                self._supply.discard([slot])
                raise
            if is_alive and not slot.signs:
                return slot
            self._bury(slot)
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                return self._wait(started_ns, timeout_s, first=True)
            slot = found

    def _settle(self, slot: Slot, exc: BaseException | None, now_ns: int) -> None:
        """Take back a connection that may be dead, dirty or too old."""
        with self._lock:
            self._meter.samples += (slot.wait_ns, now_ns - slot.acquired_ns)
        if getattr(exc, "sqlstate", None) in GOING_AWAY:
            slot.signs.append(exc.sqlstate)  # type: ignore[union-attr]
        try:
            is_clean = not slot.signs and self._engine.clean(slot.connection)
        except BaseException:
            self._supply.discard([slot])
            raise
        if is_clean:
            self._pass_on(slot, now_ns)
        else:
            self._bury(slot)

    def _pass_on(self, slot: Slot, now_ns: int) -> None:
        """Give a connection to the next caller, or to the idle ones, or close it."""
        with self._lock:
            is_kept = self._slots.offer(slot, now_ns=now_ns)
        if not is_kept:
            self._supply.discard([slot])

    def _bury(self, slot: Slot) -> None:
        """Close a dead connection, and all others of a server that is going away."""
        doomed = [slot]
        with self._lock:
            # Those opened since are connections to its successor.
            if slot.generation == self._slots.generation and (
                GOING_AWAY.intersection(slot.signs)
            ):
                doomed += self._slots.drain()
        if len(doomed) > 1:
            tell_drain(self.name, slot.signs, count=len(doomed))
        self._supply.discard(doomed)

    # -- upkeep -----------------------------------------------------------------

    def _reclaim(self) -> None:
        """Take back connections that nobody can give back any more."""
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        with self._lock:
            lost = self._slots.lost()
            for slot in lost:
                slot.own_references = None
                self._slots.counts.leaks += not slot.is_leak_told
                self._meter.samples += (slot.wait_ns, now_ns - slot.acquired_ns)
        tell_lost(self.name, lost)
        self._supply.discard(lost)

    def _fold(self) -> None:
        with self._lock:
            samples = self._meter.swap()
        self._meter.fold(samples)

    def _timeout_error(self, *, since_ns: int) -> CheckoutTimeoutError:
        slots = self._slots
        return CheckoutTimeoutError(
            pool_name=self.name,
            waited_s=(SYSTEM_CLOCK.monotonic_ns() - since_ns) / NS_PER_S,
            size=len(slots.open),
            size_max=self.config.size_max,
            in_use=slots.in_use,
            waiting=slots.waiting,
            failure=slots.failure,
        )

    def _closed_error(self) -> TargetError:
        return TargetError(f"pool {self.name!r} {self._closed_why}")

    def __enter__(self) -> Self:
        """Return the pool; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()
