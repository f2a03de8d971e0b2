"""What is left of a pool whose connections keep dying in their users' hands?"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.async_slot_pool import AsyncSlotPool
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgEngine
from harness.postgres.slot_pool import SlotPool

SIZE = 16
CALLERS = 64
KILLED_SHARE = 0.01
CONNECT_FAILURE_SHARE = 0.01
# Of real connections: those killed at the server, told to their holder, and used.
TERMINATED_SHARE = 0.01
FOUND_OUT_SHARE = 0.5
USED_SHARE = 0.1
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


def record(record_durations, engine, waits, *, wall_s, **counts):
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
            **counts,
        },
    )


class CountedEngine(PsycopgEngine):
    """Real connections to a real server, counted at the moment they open and close."""

    def __init__(self, server, config):
        super().__init__(server, config)
        self._lock = threading.Lock()
        self.open_count = self.open_max = self.opened_count = 0

    def open(self):
        """Return a new connection."""
        opened = super().open()
        with self._lock:
            self.opened_count += 1
            self.open_count += 1
            self.open_max = max(self.open_max, self.open_count)
        return opened

    def close(self, connection, handle):
        """Close one."""
        # First, so that a successor opened at once is not counted beside it.
        with self._lock:
            self.open_count -= 1
        super().close(connection, handle)


class Killer:
    """Ends real connections: their socket, or now and then the server's process.

    A process that ends tells why (57P01), so that the pool replaces all connections
    of that server: one in a hundred kills is of that kind.
    """

    def __init__(self, server):
        self._admin = connect(server.connect_arguments())
        self._lock = threading.Lock()
        self.sockets_count = self.backends_count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._admin.close()

    def kill(self, connection, dice):
        """End a connection that somebody holds."""
        if dice.random() < TERMINATED_SHARE:
            with self._lock:
                self.backends_count += 1
                self._admin.execute(
                    "SELECT pg_terminate_backend(%s, 10000)",
                    [connection.info.backend_pid],
                )
            return
        # A copy: closing it must not close the connection's own under its feet.
        # One that an earlier holder killed, and nobody has found out, stays dead.
        with (
            socket.socket(fileno=os.dup(connection.fileno())) as copy,
            suppress(OSError),
        ):
            copy.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self.sockets_count += 1


def hold(connection, dice, killer):
    """Hold a real connection; one in a hundred is killed, one in ten is used.

    Half of those killed are found out by their holder, half by whoever comes next.
    """
    mark = connection.mark = object()
    if dice.random() < KILLED_SHARE:
        killer.kill(connection, dice)
        if dice.random() < FOUND_OUT_SHARE:
            connection.execute("SELECT 1")
    elif dice.random() < USED_SHARE:
        connection.execute("SELECT 1")
    assert connection.mark is mark, "one connection, two holders"


@pytest.mark.benchmark(group="pool-deaths")
def test_million_checkouts_of_real_connections_lose_no_slot(
    postgres, sized, record_durations
):
    """The same against a server: sockets shut and backends ended under 64 threads.

    The million takes minutes: each of its ten thousand dead connections is replaced
    by a login.
    """
    total = sized(full=1_000_000, smoke=10_000)
    config = PoolConfig(
        size_min=SIZE, size_max=SIZE, checkout_timeout_s=60.0, application_name="deaths"
    )
    engine = CountedEngine(postgres, config)
    start = threading.Barrier(CALLERS)
    broken = [0] * CALLERS

    def work(index):
        dice = random.Random(index)
        start.wait()
        for _ in range(total // CALLERS):
            try:
                with pool.checkout() as connection:
                    hold(connection, dice, killer)
            except psycopg.OperationalError:
                broken[index] += 1

    with Killer(postgres) as killer:
        with SlotPool(engine, config, name="deaths") as pool:
            from_ns = SYSTEM_CLOCK.monotonic_ns()
            with ThreadPoolExecutor(CALLERS) as threads:
                list(threads.map(work, range(CALLERS)))
            wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
            while pool.stats().size < SIZE or pool.stats().opening:
                SYSTEM_CLOCK.sleep(0.01)
            check_real(pool, engine, total // CALLERS * CALLERS)
            waits = pool.metrics().checkout_wait
        assert engine.open_count == 0, "closed with the pool"
        kills = killer.sockets_count + killer.backends_count
        assert kills > total * KILLED_SHARE / 2, "connections were killed"
        assert killer.backends_count, "backends, too"
        assert sum(broken) >= kills * FOUND_OUT_SHARE / 2, "callers were told"

    record(
        record_durations,
        engine,
        waits,
        wall_s=wall_s,
        sockets_shut_count=killer.sockets_count,
        backends_ended_count=killer.backends_count,
        callers_told_count=sum(broken),
    )


def check_real(pool, engine, checkouts):
    """Check that the pool is whole by its own count, ours, and the server's."""
    everybody = [pool.checkout() for _ in range(SIZE)]
    held = [one.__enter__() for one in everybody]
    pids = {connection.info.backend_pid for connection in held}
    for one in everybody:
        one.__exit__(None, None, None)
    stats, metrics = pool.stats(), pool.metrics()
    assert len(pids) == SIZE, "every slot can be had, each once"
    assert (stats.in_use, stats.waiting) == (0, 0)
    assert engine.open_max <= SIZE, "the cap was never passed"
    assert metrics.checkouts_count == metrics.checkins_count == checkouts + SIZE
    assert metrics.opened_count == engine.opened_count
    assert metrics.checkout_timeouts_count == 0
