"""What is left of a pool whose connections keep dying in their users' hands?"""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.async_slot_pool import AsyncSlotPool
from harness.postgres.pool import PoolConfig
from harness.postgres.slot_pool import SlotPool

SIZE = 16
CALLERS = 64
KILLED_SHARE = 0.01
CONNECT_FAILURE_SHARE = 0.01
BROKEN = 4  # libpq's PQTRANS_UNKNOWN


class Connection:
    """A connection without a server: open, or broken off."""

    def __init__(self):
        self.pgconn = self
        self.transaction_status = 0
        self.autocommit = True


class Engine:
    """Opens such connections and knows how many are open; one connect in 100 fails."""

    def __init__(self, seed):
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self.open_count = self.open_max = self.opened_count = 0

    def open(self):
        """Return a new connection."""
        from harness.errors import TargetError

        with self._lock:
            if self._random.random() < CONNECT_FAILURE_SHARE:
                msg = "server is starting up"
                raise TargetError(msg, sqlstate="57P03")
            self.opened_count += 1
            self.open_count += 1
            self.open_max = max(self.open_max, self.open_count)
        return Connection(), None

    def close(self, _connection, _handle):
        """Close one."""
        with self._lock:
            self.open_count -= 1

    def clean(self, connection):
        """Whether it is good for another caller."""
        return connection.transaction_status != BROKEN

    def is_alive(self, connection, *, timeout_s):
        """Whether it still works."""
        del timeout_s
        return connection.transaction_status != BROKEN

    def listen(self, connection, signs):
        """Hear nothing: there is no server."""

    def inspect(self, connection):
        """Accept any server."""

    def uptime_s(self, _connection):
        """Say that it is up for long."""
        return 1e9


class AsyncEngine(Engine):
    """The same for tasks; each operation lets the others run."""

    async def open(self):
        """Return a new connection."""
        await asyncio.sleep(0)
        return super().open()

    async def clean(self, connection):
        """Whether it is good for another caller."""
        await asyncio.sleep(0)
        return super().clean(connection)

    async def is_alive(self, connection, *, timeout_s):
        """Whether it still works."""
        return super().is_alive(connection, timeout_s=timeout_s)

    async def inspect(self, connection):
        """Accept any server."""

    async def uptime_s(self, connection):
        """Say that it is up for long."""
        return super().uptime_s(connection)


def use(connection, dice):
    """Hold a connection for a moment; one in a hundred dies, half of them with noise.

    Nobody else may have it meanwhile: the mark would be overwritten.
    """
    mark = object()
    connection.mark = mark
    if dice.random() < KILLED_SHARE:
        connection.transaction_status = BROKEN
        if dice.random() < 0.5:
            raise ConnectionResetError
    assert connection.mark is mark, "one connection, two holders"


@pytest.mark.benchmark(group="pool-deaths")
def test_million_checkouts_of_64_threads_lose_no_slot(sized, record_durations):
    """1 % of connections die in use, 1 % of connects fail: the pool stays whole."""
    total = sized(full=1_000_000, smoke=20_000)
    engine = Engine(seed=1)
    config = PoolConfig(size_min=SIZE, size_max=SIZE, checkout_timeout_s=60.0)
    start = threading.Barrier(CALLERS)

    def work(index):
        dice = random.Random(index)
        start.wait()
        for _ in range(total // CALLERS):
            with suppress(ConnectionResetError), pool.checkout() as connection:
                use(connection, dice)

    with SlotPool(engine, config, name="deaths") as pool:
        from_ns = SYSTEM_CLOCK.monotonic_ns()
        with ThreadPoolExecutor(CALLERS) as threads:
            list(threads.map(work, range(CALLERS)))
        wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
        while pool.stats().size < SIZE or pool.stats().opening:
            SYSTEM_CLOCK.sleep(0.01)
        check(pool.stats(), pool.metrics(), engine, total // CALLERS * CALLERS)
        waits = pool.metrics().checkout_wait
    assert engine.open_count == 0, "closed with the pool"

    record(record_durations, engine, waits, wall_s=wall_s)


@pytest.mark.benchmark(group="pool-deaths")
def test_million_checkouts_of_64_tasks_lose_no_slot(sized, record_durations):
    """The same for tasks; one in a hundred is cancelled while it waits or works."""
    total = sized(full=1_000_000, smoke=20_000)
    engine = AsyncEngine(seed=2)
    config = PoolConfig(size_min=SIZE, size_max=SIZE, checkout_timeout_s=60.0)
    counts = {"checkouts": 0}

    async def operation(dice):
        async with pool.checkout() as connection:
            counts["checkouts"] += 1
            use(connection, dice)
            await asyncio.sleep(0)

    async def cancelled(dice):
        task = asyncio.create_task(operation(dice))
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()

    async def work(index):
        dice = random.Random(index)
        for _ in range(total // CALLERS):
            is_cancelled = dice.random() < KILLED_SHARE
            with suppress(ConnectionResetError):
                await (cancelled(dice) if is_cancelled else operation(dice))

    async def run():
        async with pool:
            from_ns = SYSTEM_CLOCK.monotonic_ns()
            async with asyncio.TaskGroup() as group:
                for index in range(CALLERS):
                    group.create_task(work(index))
            wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
            while pool.stats().size < SIZE or pool.stats().opening:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            check(pool.stats(), pool.metrics(), engine, counts["checkouts"])
            return wall_s

    pool = AsyncSlotPool(engine, config, name="deaths")
    wall_s = asyncio.run(run())
    assert engine.open_count == 0, "closed with the pool"
    record(record_durations, engine, pool.metrics().checkout_wait, wall_s=wall_s)


def check(stats, metrics, engine, checkouts):
    """Check that the pool is whole, and that what it counted is what happened."""
    assert (stats.size, stats.idle, stats.in_use, stats.waiting) == (SIZE, SIZE, 0, 0)
    assert engine.open_max <= SIZE, "the cap was never passed"
    assert engine.open_count == SIZE
    assert metrics.checkouts_count == metrics.checkins_count == checkouts
    assert metrics.opened_count - metrics.closed_count == SIZE
    assert metrics.opened_count == engine.opened_count
    assert metrics.checkout_timeouts_count == 0
    assert metrics.closed_count > checkouts * KILLED_SHARE / 2, "connections died"


def record(record_durations, engine, waits, *, wall_s):
    """File the distribution of the waits, thinned to what a report holds."""
    shares = [(index + 0.5) / 1000 for index in range(1000)]
    record_durations(
        [waits.quantile(share) / NS_PER_S for share in shares],
        measure="checkout_wait",
        wall_s=wall_s,
        completed=len(waits),
        details={
            "checkouts_count": len(waits),
            "opened_count": engine.opened_count,
            "open_max": engine.open_max,
            "size_max": SIZE,
        },
    )
