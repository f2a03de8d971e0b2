"""Opening a connection that wakes a suspended compute has a time of its own."""

from __future__ import annotations

import asyncio

import pytest

from harness.clock import NS_PER_S
from harness.lakebase.standin.faults import Fault
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import AsyncPsycopgPool, PsycopgPool

WAKE_S = 0.5
CONFIG = PoolConfig(size_min=1, size_max=1, checkout_timeout_s=30.0)


@pytest.fixture
def standin(make_lakebase_standin):
    return make_lakebase_standin(wake_s=WAKE_S)


@pytest.fixture
def server(standin):
    server = standin.server()
    yield server
    server.close()


def assert_one_wake(metrics):
    assert len(metrics.wake_time) == 1
    assert metrics.wake_time.quantile(0.5) >= WAKE_S * NS_PER_S * 0.95
    assert len(metrics.connect_time) == 2


def test_wake_of_a_suspended_compute_is_told_apart(standin, server):
    """Although what stands behind the stand-in was never down."""
    with PsycopgPool(server, CONFIG) as pool:
        assert len(pool.metrics().wake_time) == 0
        standin.suspend()
        with pool.checkout() as connection:
            connection.execute("SELECT 1")
        assert_one_wake(pool.metrics())


def test_wake_is_told_apart_for_tasks_too(standin, server):
    async def main():
        async with AsyncPsycopgPool(server, CONFIG) as pool:
            standin.suspend()
            async with pool.checkout() as connection:
                await connection.execute("SELECT 1")
            assert_one_wake(pool.metrics())

    asyncio.run(main())


def test_slow_network_is_no_wake(standin, server, make_fault_proxy):
    """A connect that takes as long, to a compute that was awake."""
    proxy = make_fault_proxy("127.0.0.1", standin.direct_port)
    given = server.connect_arguments

    def through_proxy():
        arguments = given()
        arguments["port"] = proxy.port
        return arguments

    server.connect_arguments = through_proxy
    server.connect_arguments_async = None
    proxy.set(Fault(latency_s=WAKE_S / 2))
    with PsycopgPool(server, CONFIG) as pool:
        metrics = pool.metrics()
    assert metrics.connect_time.quantile(0.5) >= WAKE_S * NS_PER_S
    assert len(metrics.wake_time) == 0
