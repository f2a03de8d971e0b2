"""The pool for tasks keeps the promises of the pool for threads."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError, TargetError
from harness.lakebase.queue_pool import AsyncQueuePool
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import AsyncPsycopgPool


@pytest.fixture(params=[AsyncPsycopgPool, AsyncQueuePool], ids=["psycopg", "queue"])
def pool_of(request, postgres, application_name):
    def make(server=postgres, **config):
        config = {"checkout_timeout_s": 10.0, **config}
        return request.param(
            server, PoolConfig(application_name=application_name, **config)
        )

    return make


async def pid_of(connection):
    cursor = await connection.execute("SELECT pg_backend_pid()")
    return (await cursor.fetchone())[0]


async def eventually(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)


def test_minimum_is_open_and_a_returned_connection_is_used_again(pool_of, backends):
    async def run():
        async with pool_of(size_min=3, size_max=5) as pool:
            assert backends() == pool.stats().idle == 3
            pids = set()
            for _ in range(5):
                async with pool.checkout() as connection:
                    assert connection.autocommit
                    pids.add(await pid_of(connection))
            assert len(pids) == 1

    asyncio.run(run())


def test_cap_holds_under_a_burst_of_tasks(pool_of, backends):
    async def run():
        async with pool_of(size_min=0, size_max=4) as pool:
            seen = []

            async def work():
                for _ in range(5):
                    async with pool.checkout() as connection:
                        await connection.execute("SELECT pg_sleep(0.001)")
                        seen.append(pool.stats().in_use)

            async with asyncio.TaskGroup() as group:
                for _ in range(32):
                    group.create_task(work())
            assert len(seen) == 160
            assert max(seen) <= 4
            assert 1 <= backends() <= 4

    asyncio.run(run())


def test_full_pool_times_out_with_its_state(pool_of):
    async def run():
        async with (
            pool_of(size_min=1, size_max=1, checkout_timeout_s=0.1) as pool,
            pool.checkout(),
        ):
            with pytest.raises(CheckoutTimeoutError) as caught:
                await pool.checkout().__aenter__()
            assert (caught.value.size, caught.value.in_use) == (1, 1)
            assert caught.value.waiting == 1
            assert caught.value.waited_s >= 0.1
            with pytest.raises(CheckoutTimeoutError) as caught:
                await pool.checkout(timeout_s=0).__aenter__()
            assert caught.value.waited_s < 0.1
            assert pool.stats().waiting == 0

    asyncio.run(run())


def test_cancelled_task_loses_no_connection(pool_of):
    """Cancelled in the queue, with a connection just handed over, and in the block."""

    async def run():
        async with pool_of(size_min=1, size_max=1) as pool:

            async def use():
                async with pool.checkout() as connection:
                    await connection.execute("SELECT pg_sleep(30)")

            held = pool.checkout()
            await held.__aenter__()
            waiters = [asyncio.create_task(use()) for _ in range(3)]
            await eventually(lambda: pool.stats().waiting == 3)
            waiters[0].cancel()
            await eventually(lambda: pool.stats().waiting == 2)
            await held.__aexit__(None, None, None)
            # It has been handed the connection and has not run yet.
            waiters[1].cancel()
            await eventually(lambda: pool.stats().waiting == 0)
            await asyncio.sleep(0)
            waiters[2].cancel()
            await asyncio.wait(waiters)
            async with pool.checkout() as connection:
                assert await pid_of(connection)
            stats = pool.stats()
            assert (stats.size, stats.in_use, stats.waiting) == (1, 0, 0)

    asyncio.run(run())


def test_transaction_left_open_never_reaches_the_next_borrower(pool_of):
    async def run():
        async with pool_of(size_min=1, size_max=1) as pool:
            async with pool.checkout() as connection:
                await connection.execute("BEGIN")
            async with pool.checkout() as connection:
                assert connection.info.transaction_status.name == "IDLE"

    asyncio.run(run())


@pytest.mark.parametrize("size_min", [0, 3])
def test_refused_login_is_an_error_at_once_with_the_reason(
    pool_of, server_as, size_min
):
    async def run():
        async with pool_of(
            server_as(password="canary-wrong"), size_min=size_min, size_max=3
        ) as pool:
            await pool.checkout().__aenter__()

    with pytest.raises(TargetError, match="password authentication failed") as caught:
        asyncio.run(run())
    assert "canary-wrong" not in str(caught.value)


def test_shutdown_of_the_server_drains_the_pool(pool_of, kill):
    async def run():
        async with pool_of(size_min=2, size_max=2) as pool:
            before = set()

            async def use():
                async with pool.checkout() as connection:
                    before.add(await pid_of(connection))
                    kill(await pid_of(connection))
                    await connection.execute("SELECT 1")

            with pytest.raises(psycopg.errors.AdminShutdown):
                await use()
            async with pool.checkout() as a, pool.checkout() as b:
                after = {await pid_of(a), await pid_of(b)}
            assert len(after) == 2
            assert not before & after
            assert pool.metrics().closed_count == 2

    asyncio.run(run())


def test_connection_that_died_while_idle_is_never_given_out(pool_of, kill):
    async def run(liveness_idle_s):
        async with pool_of(
            size_min=1, size_max=1, liveness_idle_s=liveness_idle_s
        ) as pool:
            async with pool.checkout() as connection:
                pid = await pid_of(connection)
            kill(pid)
            pool._trusted_ns = 0
            async with pool.checkout() as connection:
                assert await pid_of(connection) != pid

    asyncio.run(run(60.0))  # by looking
    asyncio.run(run(0.0))  # by asking


def test_idle_connections_above_the_minimum_are_closed(pool_of, backends):
    async def run():
        async with pool_of(size_min=1, size_max=2) as pool:
            async with pool.checkout(), pool.checkout():
                pass
            pool.maintain(now_ns=SYSTEM_CLOCK.monotonic_ns() + 3700 * NS_PER_S)
            await eventually(lambda: pool.stats().size == backends() == 1)

    asyncio.run(run())


def test_close_closes_everything_and_refuses_more(pool_of, backends):
    async def run():
        async with pool_of(size_min=2, size_max=2) as pool:
            async with pool.checkout() as connection:
                await pool.close()
                assert await pid_of(connection)
            await eventually(lambda: backends() == 0)
            with pytest.raises(TargetError, match="is closed"):
                await pool.checkout().__aenter__()

    asyncio.run(run())


def test_lost_checkout_is_taken_back(pool_of):
    async def run():
        async with pool_of(size_min=1, size_max=1, checkout_timeout_s=1.0) as pool:
            await pool.checkout().__aenter__()
            async with pool.checkout() as connection:
                assert await pid_of(connection)
            assert pool.metrics().leaks_count == 1

    asyncio.run(run())
