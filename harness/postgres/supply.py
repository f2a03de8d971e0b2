"""Where the connections of a pool for threads come from, and where they go."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.opening import (
    backoff_s,
    is_final_at_start,
    is_permanent,
    prewarm_error,
)
from harness.postgres.pool_log import Teller, tell_opened
from harness.postgres.slots import LIFETIME_JITTER, Slot, Slots
from harness.postgres.waiting import again

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.postgres.meter import Meter
    from harness.postgres.opening import Engine
    from harness.postgres.pool import PoolConfig

# A connect that took this long may have woken a suspended server: ask it.
WAKE_SUSPECT_S = 0.2


class Supply:
    """Opens connections in threads of its own, many at a time, and closes them.

    Args:
        engine: Opens and closes one connection.
        slots: What is open, and who waits.
        lock: Guards the slots.
        meter: Learns how long each connect took.
        config: Sizes and times.
        name: Name of the pool, for messages.
    """

    def __init__(
        self,
        engine: Engine,
        slots: Slots,
        lock: threading.Lock,
        *,
        meter: Meter,
        config: PoolConfig,
        name: str,
    ) -> None:
        self.engine = engine
        self.config = config
        self.name = name
        self.closing = threading.Event()
        self._slots = slots
        self._lock = lock
        self._meter = meter
        self._teller = Teller(name)
        self._is_inspected = False
        self._is_filled = threading.Event()
        self._is_started = False
        self._start_error: Exception | None = None
        self._openers = ThreadPoolExecutor(
            min(config.connect_concurrency, config.size_max),
            thread_name_prefix=f"pool-{name}-open",
        )

    def discard(self, slots: list[Slot]) -> None:
        """Close connections, then give their places to whoever needs them."""
        for slot in slots:
            try:
                self.engine.close(slot.connection, slot.handle)
            finally:
                with self._lock:
                    self._slots.forget(slot)
        if slots:
            self.grow()

    def start(self) -> None:
        """Open `size_min` connections; the first alone, so that a refusal is one."""
        if self.config.size_min:
            with self._lock:
                self._slots.opening += 1
            self.order(1)
            self._is_filled.wait(self.config.prewarm_timeout_s)
        with self._lock:
            self._is_started = True
            opened, failure = len(self._slots.open), self._slots.failure
        if self._start_error is not None:
            raise again(self._start_error)
        if opened < self.config.size_min:
            raise prewarm_error(self.name, self.config, opened=opened, failure=failure)

    def grow(self) -> None:
        """Open what is missing now."""
        with self._lock:
            number = self._slots.wanted()
        self.order(number)

    def order(self, number: int) -> None:
        """Let a number of connections be opened that are counted already."""
        for ordered in range(number):
            try:
                self._openers.submit(self._open)
            except RuntimeError:  # closed meanwhile, or no thread can be started
                with self._lock:
                    for _ in range(number - ordered):
                        self._slots.abandon_opening(was_probe=False)
                return

    def _open(self) -> None:
        """Open one connection, again and again if nobody else does."""
        slots = self._slots
        is_probe, attempt = False, 0
        began_ns = SYSTEM_CLOCK.monotonic_ns()
        while True:
            asked_ns = SYSTEM_CLOCK.monotonic_ns()
            try:
                slot = self._opened(began_ns, attempt)
            except Exception as error:  # noqa: BLE001 - told to whoever waits
                self._teller.refused(error, asked_ns=asked_ns, attempt=attempt)
                is_probe = self._refused(error, was_probe=is_probe)
                if not is_probe:
                    return
                is_over = self.closing.wait(backoff_s(attempt))
                with self._lock:
                    if is_over or not slots.is_short():
                        slots.abandon_opening(was_probe=True)
                        return
                attempt += 1
            except BaseException:
                with self._lock:
                    slots.abandon_opening(was_probe=is_probe)
                raise
            else:
                break
        with self._lock:
            is_kept = slots.adopt(slot, now_ns=SYSTEM_CLOCK.monotonic_ns())
            is_filled = len(slots.open) >= self.config.size_min
        if is_filled:
            self._is_filled.set()
        if not is_kept:
            self.discard([slot])
        self.grow()

    def _refused(self, error: Exception, *, was_probe: bool) -> bool:
        is_permanent_now = is_permanent(error)
        with self._lock:
            if not self._is_started and (is_permanent_now or is_final_at_start(error)):
                is_permanent_now = True
                self._start_error = self._start_error or error
            again = self._slots.refused(
                error, is_permanent=is_permanent_now, was_probe=was_probe
            )
        if self._start_error is not None:
            self._is_filled.set()
        return again

    def _opened(self, began_ns: int, attempt: int) -> Slot:
        """Connect once and look at what answered."""
        generation = self._slots.generation
        asked_ns = SYSTEM_CLOCK.monotonic_ns()
        connection, handle = self.engine.open()
        opened_ns = SYSTEM_CLOCK.monotonic_ns()
        try:
            if not self._is_inspected:
                self.engine.inspect(connection)
                self._is_inspected = True
            woke = False
            if attempt or opened_ns - began_ns > WAKE_SUSPECT_S * NS_PER_S:
                uptime_s = self.engine.uptime_s(connection)
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

    def orphan(self, engine: Engine, lock: threading.Lock) -> None:
        """Open no more, in a forked child: the threads for it are not here."""
        self.engine, self._lock = engine, lock
        self.closing, self._is_filled = threading.Event(), threading.Event()
        self._openers = ThreadPoolExecutor(1)  # starts no thread before it has work
        self.close()

    def close(self) -> None:
        """Open no more; what is being opened is closed as soon as it is open."""
        self.closing.set()
        self._is_filled.set()
        self._openers.shutdown(wait=False, cancel_futures=True)


def new_slot(
    opened: tuple[Any, Any],
    listen: Callable[[Any, list[str]], None],
    *,
    config: PoolConfig,
    generation: int,
    opened_ns: int,
) -> Slot:
    """Return the slot of a connection, with a life of its own length."""
    life_s = config.lifetime_max_s
    life_s *= 1 - LIFETIME_JITTER * random.random()  # noqa: S311 - spreads load
    slot = Slot(
        *opened,
        generation=generation,
        opened_ns=opened_ns,
        expires_ns=opened_ns + int(life_s * NS_PER_S),
    )
    listen(slot.connection, slot.signs)
    return slot
