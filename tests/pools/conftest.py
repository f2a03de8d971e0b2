"""A pool of each library over the embedded server, and the server's own count."""

from __future__ import annotations

import itertools
import os

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.lakebase.queue_pool import QueuePool
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.server import ConnectArguments

PATIENCE_S = 20.0
names = itertools.count()


class ServerAs:
    """The same server through other connect arguments."""

    def __init__(self, server, **arguments):
        self.info = server.info
        self.server = server
        self.arguments = arguments

    def connect_arguments(self):
        return ConnectArguments({**self.server.connect_arguments(), **self.arguments})

    def close(self):
        pass


@pytest.fixture
def server_as(postgres):
    """Return a function: the server through other connect arguments."""
    return lambda **arguments: ServerAs(postgres, **arguments)


@pytest.fixture(params=[PsycopgPool, QueuePool], ids=["psycopg", "queue"])
def pool_class(request):
    return request.param


@pytest.fixture
def application_name():
    """Unique, so that the server can count this test's connections."""
    return f"pools-{os.getpid()}-{next(names)}"


@pytest.fixture
def make(pool_class, postgres, application_name):
    pools = []

    def make(server=postgres, **config):
        config = {"checkout_timeout_s": 10.0, **config}
        pool = pool_class(
            server, PoolConfig(application_name=application_name, **config)
        )
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def backends(postgres, application_name):
    """Return a function: how many connections the server itself counts."""
    with connect(postgres.connect_arguments()) as connection:

        def count():
            return connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s",
                [application_name],
            ).fetchone()[0]

        yield count


@pytest.fixture
def kill(postgres, eventually):
    """Return a function: end a connection from the server's side, and see it."""
    with connect(postgres.connect_arguments()) as admin:

        def kill(pid):
            admin.execute("SELECT pg_terminate_backend(%s)", [pid])
            eventually(
                lambda: (
                    admin.execute(
                        "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]
                    ).fetchone()[0]
                    == 0
                )
            )

        yield kill


@pytest.fixture
def pid_of():
    """Return a function: the server's process behind a connection."""
    return lambda connection: connection.execute("SELECT pg_backend_pid()").fetchone()[
        0
    ]


@pytest.fixture
def eventually():
    """Poll something that others do; fail loudly when it never happens."""

    def wait(condition):
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(PATIENCE_S * NS_PER_S)
        while not condition():
            if SYSTEM_CLOCK.monotonic_ns() > deadline_ns:
                pytest.fail("the condition never became true")
            SYSTEM_CLOCK.sleep(0.01)

    return wait
