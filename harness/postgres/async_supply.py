"""Where the connections of a pool for tasks come from, and where they go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.opening import (
    backoff_s,
    is_final_at_start,
    is_permanent,
    prewarm_error,
)
from harness.postgres.pool_log import Teller, tell_opened
from harness.postgres.supply import WAKE_SUSPECT_S, new_slot
from harness.postgres.waiting import again

if TYPE_CHECKING:
    from harness.postgres.meter import Meter
    from harness.postgres.opening import AsyncEngine
    from harness.postgres.slots import Slot, Slots


class AsyncSupply:
    """Opens connections in tasks of its own, many at a time, and closes them.

    Args:
        engine: Opens and closes one connection.
        slots: What is open, and who waits.
        meter: Learns how long each connect took.
        name: Name of the pool, for messages.
    """

    def __init__(
        self, engine: AsyncEngine, slots: Slots, *, meter: Meter, name: str
    ) -> None:
        self.engine = engine
        self.config = slots.config
        self.name = name
        self._slots = slots
        self._meter = meter
        self._teller = Teller(name)
        self._is_inspected = False
        self._is_filled = asyncio.Event()
        self._is_started = False
        self._start_error: Exception | None = None
        self._turns = asyncio.Semaphore(self.config.connect_concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open `size_min` connections; the first alone, so that a refusal is one."""
        if self.config.size_min:
            self._slots.opening += 1
            self._order(1)
            filled = asyncio.ensure_future(self._is_filled.wait())
            try:
                await asyncio.wait((filled,), timeout=self.config.prewarm_timeout_s)
            finally:
                filled.cancel()
        self._is_started = True
        if self._start_error is not None:
            raise again(self._start_error)
        opened = len(self._slots.open)
        if opened < self.config.size_min:
            raise prewarm_error(
                self.name, self.config, opened=opened, failure=self._slots.failure
            )

    def discard(self, slots: list[Slot]) -> None:
        """Close connections, then give their places to whoever needs them."""
        for slot in slots:
            try:
                self.engine.close(slot.connection, slot.handle)
            finally:
                self._slots.forget(slot)
        if slots:
            self.grow()

    def grow(self) -> None:
        """Open what is missing now."""
        self._order(self._slots.wanted())

    async def close(self) -> None:
        """Open no more; wait for what is being opened to be given up."""
        self._is_filled.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _order(self, number: int) -> None:
        for _ in range(number):
            task = asyncio.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        """Open one connection, again and again if nobody else does."""
        slots = self._slots
        is_probe, is_counted = False, True
        began_ns, attempt = SYSTEM_CLOCK.monotonic_ns(), 0
        try:
            while True:
                asked_ns = SYSTEM_CLOCK.monotonic_ns()
                try:
                    async with self._turns:
                        asked_ns = SYSTEM_CLOCK.monotonic_ns()
                        slot = await self._opened(began_ns, attempt)
                except Exception as error:  # noqa: BLE001 - told to whoever waits
                    self._teller.refused(error, asked_ns=asked_ns, attempt=attempt)
                    is_probe = self._refused(error, was_probe=is_probe)
                    is_counted = is_probe
                    if not is_probe:
                        return
                    await asyncio.sleep(backoff_s(attempt))
                    if not slots.is_short():
                        return
                    attempt += 1
                else:
                    break
            is_counted = False
        finally:
            # Also when it is cancelled: the place is never lost.
            if is_counted:
                slots.abandon_opening(was_probe=is_probe)
        is_kept = slots.adopt(slot, now_ns=SYSTEM_CLOCK.monotonic_ns())
        if len(slots.open) >= self.config.size_min:
            self._is_filled.set()
        if not is_kept:
            self.discard([slot])
        self.grow()

    def _refused(self, error: Exception, *, was_probe: bool) -> bool:
        is_permanent_now = is_permanent(error)
        if not self._is_started and (is_permanent_now or is_final_at_start(error)):
            is_permanent_now = True
            self._start_error = self._start_error or error
            self._is_filled.set()
        return self._slots.refused(
            error, is_permanent=is_permanent_now, was_probe=was_probe
        )

    async def _opened(self, began_ns: int, attempt: int) -> Slot:
        """Connect once and look at what answered."""
        generation = self._slots.generation
        asked_ns = SYSTEM_CLOCK.monotonic_ns()
        connection, handle = await self.engine.open()
        opened_ns = SYSTEM_CLOCK.monotonic_ns()
        woke = False
        try:
            if not self._is_inspected:
                await self.engine.inspect(connection)
                self._is_inspected = True
            if attempt or opened_ns - began_ns > WAKE_SUSPECT_S * NS_PER_S:
                uptime_s = await self.engine.uptime_s(connection)
                # Started since we began to knock: our knocking woke it.
                woke = uptime_s * NS_PER_S < SYSTEM_CLOCK.monotonic_ns() - began_ns
        except BaseException:
            self.engine.close(connection, handle)
            raise
        took_ns, woke_ns = opened_ns - asked_ns, opened_ns - began_ns if woke else None
        self._meter.connected(took_ns, woke_ns=woke_ns)
        tell_opened(self.name, took_ns=took_ns, woke_ns=woke_ns, attempt=attempt)
        return new_slot(
            (connection, handle),
            self.engine.listen,
            config=self.config,
            generation=generation,
            opened_ns=opened_ns,
        )
