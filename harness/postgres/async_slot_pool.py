"""The pool for tasks of one event loop: the same book-keeping without locks."""

# A checkout and its pool are one thing in two classes.
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError, TargetError
from harness.postgres.async_supply import AsyncSupply
from harness.postgres.checkout import callers
from harness.postgres.meter import BUFFER_LENGTH, Meter
from harness.postgres.pool import PoolStats
from harness.postgres.pool_log import Teller, tell_drain, tell_leaks, tell_lost
from harness.postgres.slot_pool import (
    GOING_AWAY,
    PING_TIMEOUT_S,
    TRUSTED_NS,
)
from harness.postgres.slots import Slots
from harness.postgres.upkeep import upkeep_interval_s
from harness.postgres.waiting import again

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from harness.postgres.opening import AsyncEngine
    from harness.postgres.pool import PoolConfig, PoolMetrics
    from harness.postgres.slots import Slot

logger = logging.getLogger(__name__)
monotonic_ns = SYSTEM_CLOCK.monotonic_ns


class AsyncSlotPool:
    """Connections for the tasks of one event loop, whichever library opens them.

    It keeps the promises of `SlotPool`. Nothing is opened before `open` or
    `async with`.

    Args:
        engine: Opens and closes its connections.
        config: Sizes and times.
        name: Name of the pool, for messages.
    """

    def __init__(self, engine: AsyncEngine, config: PoolConfig, *, name: str) -> None:
        self.name = name
        self.config = config
        self._engine = engine
        self._slots = Slots(config)
        self._idle = self._slots.idle
        self._waiters = self._slots.waiters
        self._meter = Meter()
        self._teller = Teller(name)
        self._trusted_ns = min(TRUSTED_NS, int(config.liveness_idle_s * NS_PER_S))
        self._traces = config.leak_after_s > 0
        self._supply = AsyncSupply(engine, self._slots, meter=self._meter, name=name)
        self._upkeep: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open `size_min` connections.

        Raises:
            TargetError: The server refused a connection, with its reason.
            ConfigError: The server cannot serve a pool of this size.
            CredentialError: No password could be had.
        """
        try:
            await self._supply.start()
        except BaseException:
            await self.close()
            raise
        self._upkeep = asyncio.create_task(self._keep_up())

    def checkout(self, timeout_s: float | None = None) -> AsyncCheckout:
        """Borrow an asynchronous psycopg connection for an `async with` block.

        Args:
            timeout_s: Longest wait in seconds, 0 for none at all; default is the
                pool's `checkout_timeout_s`.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        return AsyncCheckout(self, timeout_s)

    def stats(self) -> PoolStats:
        """Return the live state."""
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
        self._meter.fold(self._meter.swap())
        return self._meter.metrics(self._slots.counts, in_use=self._slots.in_use)

    def borrowed_at(self) -> list[str]:
        """Return `file:line in function` of every connection checked out now."""
        return self._slots.borrowed_at()

    def drain(self) -> None:
        """Replace every connection: idle ones now, others when they come back."""
        self._supply.discard(self._slots.drain())

    async def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        idle = self._slots.close(self._closed_error())
        self._supply.discard(idle)
        if self._upkeep is not None:
            self._upkeep.cancel()
        await self._supply.close()

    def maintain(self, *, now_ns: int | None = None) -> None:
        """Do what time asks for: replace what is old, name leaks, take back losses.

        Args:
            now_ns: The time that ages are measured by; default is the clock's.
        """
        if now_ns is None:
            now_ns = monotonic_ns()
        tell_leaks(self.name, self._slots.overdue(now_ns=now_ns))
        self._supply.discard(self._slots.due(now_ns=now_ns))
        self._reclaim()
        self._meter.fold(self._meter.swap())
        self._supply.grow()

    async def _keep_up(self) -> None:
        interval_s = upkeep_interval_s(self.config)
        while True:
            await asyncio.sleep(interval_s)
            try:
                self.maintain()
            except Exception:
                # The next round may go well; without a task nothing ever would.
                logger.exception(
                    "pool %r: upkeep failed",
                    self.name,
                    extra={"operation": "pool.upkeep"},
                )

    async def _wait(
        self, started_ns: int, timeout_s: float | None, *, first: bool = False
    ) -> Slot:
        """Queue for a connection; *first* is a caller that got a dead one."""
        limit_s = self.config.checkout_timeout_s if timeout_s is None else timeout_s
        slots = self._slots
        if slots.is_closed:
            raise self._closed_error()
        waiter = TaskWaiter()
        slots.queue(waiter, first=first)
        self._supply.grow()
        deadline_ns = started_ns + int(limit_s * NS_PER_S)
        try:
            # Half-way, look whether a connection has been lost by its holder.
            if not await waiter.wait_until((started_ns + deadline_ns) // 2):
                self._reclaim()
                await waiter.wait_until(deadline_ns)
        except BaseException:
            # A task that is cancelled with a connection in hand passes it on.
            if waiter.slot is not None:
                self._pass_on(waiter.slot, monotonic_ns())
            elif waiter.error is None:
                slots.withdraw(waiter)
            raise
        if waiter.slot is not None:
            return waiter.slot
        if waiter.error is not None:
            raise again(waiter.error)
        error = CheckoutTimeoutError(
            pool_name=self.name,
            waited_s=(monotonic_ns() - started_ns) / NS_PER_S,
            size=len(slots.open),
            size_max=self.config.size_max,
            in_use=slots.in_use,
            waiting=slots.waiting,
            failure=slots.failure,
        )
        slots.counts.checkout_timeouts += 1
        slots.withdraw(waiter)
        self._teller.timed_out(error)
        raise error from slots.failure

    async def _proven(
        self, slot: Slot, started_ns: int, timeout_s: float | None
    ) -> Slot:
        """Return a connection that lives: this one, or the next that does."""
        liveness_ns = int(self.config.liveness_idle_s * NS_PER_S)
        while True:
            is_stale = started_ns - slot.returned_ns > liveness_ns
            try:
                is_alive = await self._engine.is_alive(
                    slot.connection, timeout_s=PING_TIMEOUT_S if is_stale else None
                )
            except BaseException:
                self._supply.discard([slot])
                raise
            if is_alive and not slot.signs:
                return slot
            self._bury(slot)
            if not self._idle:
                return await self._wait(started_ns, timeout_s, first=True)
            slot = self._idle.pop()

    async def _settle(self, slot: Slot, exc: BaseException | None, now_ns: int) -> None:
        """Take back a connection that may be dead, dirty or too old."""
        self._meter.samples += (slot.wait_ns, now_ns - slot.acquired_ns)
        sqlstate = getattr(exc, "sqlstate", None)
        if sqlstate in GOING_AWAY:
            slot.signs.append(sqlstate)
        try:
            is_clean = not slot.signs and await self._engine.clean(slot.connection)
        except BaseException:
            self._supply.discard([slot])
            raise
        if is_clean:
            self._pass_on(slot, now_ns)
        else:
            self._bury(slot)

    def _pass_on(self, slot: Slot, now_ns: int) -> None:
        """Give a connection to the next caller, or to the idle ones, or close it."""
        if not self._slots.offer(slot, now_ns=now_ns):
            self._supply.discard([slot])

    def _bury(self, slot: Slot) -> None:
        """Close a dead connection, and all others of a server that is going away."""
        doomed = [slot]
        if slot.generation == self._slots.generation and (
            GOING_AWAY.intersection(slot.signs)
        ):
            doomed += self._slots.drain()
            tell_drain(self.name, slot.signs, count=len(doomed))
        self._supply.discard(doomed)

    def _reclaim(self) -> None:
        """Take back connections that nobody can give back any more."""
        now_ns = monotonic_ns()
        lost = self._slots.lost()
        for slot in lost:
            slot.own_references = None
            self._slots.counts.leaks += not slot.is_leak_told
            self._meter.samples += (slot.wait_ns, now_ns - slot.acquired_ns)
        tell_lost(self.name, lost)
        self._supply.discard(lost)

    def _closed_error(self) -> TargetError:
        return TargetError(f"pool {self.name!r} is closed")

    async def __aenter__(self) -> Self:
        """Open the pool; it is closed at the end of the block."""
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        await self.close()


class TaskWaiter:
    """A task in the queue."""

    __slots__ = ("_woken", "error", "is_gone", "slot")

    def __init__(self) -> None:
        self.slot: Slot | None = None
        self.error: BaseException | None = None
        self.is_gone = False
        self._woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hand(self, slot: Slot) -> None:
        """Wake the caller with a connection."""
        self.slot = slot
        self._woken.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Wake the caller with the reason why it gets none."""
        self.error = error
        self._woken.set_result(None)

    async def wait_until(self, deadline_ns: int) -> bool:
        """Wait to be woken; False when *deadline_ns* came first."""
        left_s = (deadline_ns - monotonic_ns()) / NS_PER_S
        if left_s > 0 and not self._woken.done():
            # Unlike wait_for it cancels nothing, so nothing can be lost in between.
            await asyncio.wait((self._woken,), timeout=left_s)
        return self._woken.done()


class AsyncCheckout:
    """One `async with` block."""

    __slots__ = ("_pool", "_slot", "_timeout_s")

    def __init__(self, pool: AsyncSlotPool, timeout_s: float | None = None) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._slot: Slot | None = None

    async def __aenter__(self) -> Any:
        """Borrow a connection and note the caller's line."""
        pool = self._pool
        started_ns = monotonic_ns()
        if pool._idle:
            slot = pool._idle.pop()
            if started_ns - slot.returned_ns > pool._trusted_ns:
                slot = await pool._proven(slot, started_ns, self._timeout_s)
        else:
            slot = await pool._wait(started_ns, self._timeout_s)
        self._slot = slot
        frame = sys._getframe(1)
        slot.place = (frame.f_code, frame.f_lasti)
        if pool._traces:
            slot.stack = callers(frame)
        slot.acquired_ns = now_ns = monotonic_ns()
        slot.wait_ns = now_ns - started_ns
        return slot.connection

    async def __aexit__(
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
            and not slot.pgconn.transaction_status
            and slot.connection.autocommit
            and slot.expires_ns > now_ns
        ):
            samples = pool._meter.samples
            samples.append(slot.wait_ns)
            samples.append(now_ns - slot.acquired_ns)
            if pool._waiters:
                pool._pass_on(slot, now_ns)
            else:
                slot.returned_ns = now_ns
                slot.place = None
                pool._idle.append(slot)
            if len(samples) >= BUFFER_LENGTH:
                pool._meter.fold(pool._meter.swap())
        else:
            await pool._settle(slot, exc, now_ns)
