"""What only the psycopg pool needs; the promises of every pool: tests/pools."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from harness.errors import CheckoutTimeoutError, TargetError
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.server import ConnectArguments


class SlowServer:
    """A server whose logins take as long as a test wants."""

    def __init__(self, server):
        self.info = server.info
        self.server = server
        self.open = threading.Event()
        self.open.set()

    def connect_arguments(self):
        assert self.open.wait(timeout=30)
        return ConnectArguments(self.server.connect_arguments())

    def close(self):
        pass


def test_timed_out_callers_are_no_longer_counted_as_waiting(postgres):
    """The library keeps them in its queue until a connection comes back."""
    config = PoolConfig(size_min=1, size_max=1, checkout_timeout_s=0.02)
    with PsycopgPool(postgres, config) as pool, pool.checkout():
        for _ in range(3):
            with pytest.raises(CheckoutTimeoutError) as caught, pool.checkout():
                pass
            assert caught.value.waiting == 1

        assert pool.stats().waiting == 0


def test_every_caller_in_the_queue_is_counted(postgres):
    config = PoolConfig(size_min=1, size_max=1, checkout_timeout_s=0.3)
    with (
        PsycopgPool(postgres, config) as pool,
        ThreadPoolExecutor(3) as threads,
        pool.checkout(),
    ):
        errors = [threads.submit(pool.checkout().__enter__) for _ in range(3)]
        waited = [error.exception(timeout=10) for error in errors]

    assert all(isinstance(error, CheckoutTimeoutError) for error in waited)
    assert max(error.waiting for error in waited) == 3


def test_prewarm_does_not_return_before_the_minimum_is_open(postgres):
    server = SlowServer(postgres)
    with PsycopgPool(server, PoolConfig(size_min=12, size_max=12)) as pool:
        assert pool.stats().idle == 12


def test_refused_growth_is_the_reason_of_the_timeout(postgres):
    """Too many connections may pass, so it is waited for; the reason is told."""
    with connect(postgres.connect_arguments()) as admin:
        admin.execute("DROP ROLE IF EXISTS one_only")
        admin.execute("CREATE ROLE one_only LOGIN CONNECTION LIMIT 1 PASSWORD 'pw'")

    class OneOnly(SlowServer):
        def connect_arguments(self):
            return super().connect_arguments() | {"user": "one_only", "password": "pw"}

    config = PoolConfig(size_min=0, size_max=2, checkout_timeout_s=0.5)
    with PsycopgPool(OneOnly(postgres), config) as pool, pool.checkout() as connection:
        with (
            pytest.raises(CheckoutTimeoutError, match="too many connections") as caught,
            pool.checkout(),
        ):
            pass
        assert isinstance(caught.value.failure, TargetError)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_connection_is_a_psycopg_connection(postgres):
    config = PoolConfig(size_min=1, size_max=1)
    with PsycopgPool(postgres, config) as pool, pool.checkout() as connection:
        assert isinstance(connection, psycopg.Connection)
