"""The promises of `Pool`, kept alike by every library behind it."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from harness.errors import CheckoutTimeoutError, ConfigError, TargetError
from harness.lakebase.queue_pool import QueuePool
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.server import ConnectArguments

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


def pid_of(connection):
    return connection.execute("SELECT pg_backend_pid()").fetchone()[0]


def is_dead(connection):
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def wait_until(condition, *, attempts=200):
    """Poll something another process does; fail loudly when it never happens."""
    gate = threading.Event()
    for _ in range(attempts):
        if condition():
            return
        gate.wait(0.02)
    pytest.fail("the condition never became true")


def test_minimum_is_open_before_the_first_checkout(make, backends):
    pool = make(size_min=5, size_max=8)

    assert backends() == 5
    assert (pool.stats().size, pool.stats().idle, pool.stats().in_use) == (5, 5, 0)


def test_checkout_gives_a_working_autocommit_connection(make, application_name):
    pool = make(size_min=1, size_max=1)

    with pool.checkout() as connection:
        assert connection.autocommit
        shown = connection.execute("SHOW application_name").fetchone()[0]
        assert pool.stats().in_use == 1

    assert shown == application_name
    assert pool.stats().in_use == 0


def test_a_returned_connection_is_used_again(make):
    pool = make(size_min=1, size_max=4)

    pids = set()
    for _ in range(5):
        with pool.checkout() as connection:
            pids.add(pid_of(connection))

    assert len(pids) == 1


def test_cap_holds_under_a_burst(make, backends):
    """32 threads, 4 connections: an unlocked check-then-act would open more."""
    pool = make(size_min=0, size_max=4)
    start = threading.Barrier(32)
    seen = []

    def work(_index):
        start.wait()
        for _ in range(5):
            with pool.checkout() as connection:
                connection.execute("SELECT pg_sleep(0.001)")
                seen.append(pool.stats().in_use)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(32)))

    assert len(seen) == 160
    assert max(seen) <= 4
    assert 1 <= backends() <= 4


def test_full_pool_times_out_with_its_state(make):
    pool = make(size_min=2, size_max=2, checkout_timeout_s=0.1)

    with (
        pool.checkout(),
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(),
    ):
        pass

    error = caught.value
    assert (error.size_max, error.in_use) == (2, 2)
    assert error.waiting == 1
    assert 0.1 <= error.waited_s < 5.0
    assert "size_max=2, in_use=2, waiting=1" in str(error)


def test_timeout_zero_does_not_wait(make):
    pool = make(size_min=1, size_max=1, checkout_timeout_s=0.0)

    with (
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(),
    ):
        pass

    assert caught.value.waited_s < 0.05


def test_timeout_zero_takes_what_is_free_and_may_grow(make):
    pool = make(size_min=1, size_max=2, checkout_timeout_s=0.0)

    with pool.checkout() as first, pool.checkout() as second:
        assert pid_of(first) != pid_of(second)


def test_waiter_gets_the_connection_that_comes_back(make):
    pool = make(size_min=1, size_max=1)
    with ThreadPoolExecutor(1) as threads:
        with pool.checkout() as connection:
            first = pid_of(connection)
            waiter = threads.submit(lambda: pool.checkout().__enter__())
        second = pid_of(waiter.result(timeout=10))

    assert first == second
    assert pool.stats().in_use == 1


@pytest.mark.parametrize("death", ["closed by the caller", "killed by the server"])
def test_dead_connection_gives_its_slot_back(make, death, postgres):
    """Dead connections that keep their slot exhaust a pool for good."""
    pool = make(size_min=2, size_max=2)

    for _ in range(5):
        with pool.checkout() as connection:
            if death == "closed by the caller":
                connection.close()
            else:
                with connect(postgres.connect_arguments()) as other:
                    other.execute(
                        "SELECT pg_terminate_backend(%s)", [pid_of(connection)]
                    )
                wait_until(lambda: is_dead(connection))

    with pool.checkout() as first, pool.checkout() as second:
        assert pid_of(first) != pid_of(second)
    assert pool.stats().size <= 2


def test_transaction_left_open_never_reaches_the_next_borrower(make):
    """To commit it would publish unfinished work; to keep it would mix two callers."""
    pool = make(size_min=1, size_max=1)

    with pool.checkout() as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE left_open (id int)")
    with pool.checkout() as connection:
        assert connection.info.transaction_status.name == "IDLE"
        found = connection.execute("SELECT to_regclass('left_open')").fetchone()[0]

    assert found is None


def test_failed_transaction_is_cleaned_up(make):
    pool = make(size_min=1, size_max=1)

    with pool.checkout() as connection:
        pid = pid_of(connection)
        connection.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")

    with pool.checkout() as connection:
        assert pid_of(connection) == pid


def test_error_in_the_block_returns_the_connection(make):
    pool = make(size_min=1, size_max=1)

    with pytest.raises(ZeroDivisionError), pool.checkout():
        raise ZeroDivisionError

    with pool.checkout() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"password": "canary-wrong"}, "password authentication failed"),
        ({"user": "nobody_here"}, "nobody_here"),
        ({"dbname": "no_such_db"}, "no_such_db"),
    ],
    ids=["password", "role", "database"],
)
@pytest.mark.parametrize("size_min", [0, 3])
def test_refused_login_is_an_error_at_once_with_the_reason(
    make, postgres, arguments, reason, size_min
):
    """psycopg_pool by itself would retry for 30 s and say only PoolTimeout."""
    refused = ServerAs(postgres, **arguments)

    with (
        pytest.raises(TargetError) as caught,
        make(refused, size_min=size_min, size_max=3).checkout(),
    ):
        pass

    assert reason in str(caught.value)
    assert "canary-wrong" not in str(caught.value)


def test_login_refused_later_is_the_reason_given(make, postgres):
    """The pool is warm, the password changes, and one more connection is needed."""
    server = ServerAs(postgres)
    pool = make(server, size_min=1, size_max=2, checkout_timeout_s=0.5)
    server.arguments = {"password": "canary-wrong"}

    with pool.checkout(), pytest.raises(TargetError) as caught, pool.checkout():
        pass

    assert "password authentication failed" in str(caught.value)


def test_pool_that_cannot_be_filled_says_why(make, postgres):
    """One role, two connections allowed, three wanted."""
    with connect(postgres.connect_arguments()) as admin:
        admin.execute("DROP ROLE IF EXISTS two_only")
        admin.execute("CREATE ROLE two_only LOGIN CONNECTION LIMIT 2 PASSWORD 'pw'")
    limited = ServerAs(postgres, user="two_only", password="pw")

    with pytest.raises(TargetError, match="too many connections for role"):
        make(limited, size_min=3, size_max=3)


def test_statement_timeout_holds_on_every_connection(make):
    pool = make(size_min=1, size_max=1, statement_timeout_s=0.05)

    with (
        pytest.raises(psycopg.errors.QueryCanceled),
        pool.checkout() as connection,
    ):
        connection.execute("SELECT pg_sleep(5)")


def test_every_connection_asks_for_fresh_arguments(make, postgres):
    asked = []

    class Counting(ServerAs):
        def connect_arguments(self):
            asked.append(1)
            return super().connect_arguments()

    pool = make(Counting(postgres), size_min=1, size_max=2)
    before = len(asked)
    with pool.checkout(), pool.checkout():
        pass

    assert len(asked) == before + 1


def test_close_closes_idle_connections_and_refuses_more(make, backends):
    pool = make(size_min=3, size_max=3)

    pool.close()
    pool.close()

    wait_until(lambda: backends() == 0)
    with pytest.raises(TargetError, match="is closed"), pool.checkout():
        pass


def test_connection_out_during_close_is_closed_when_it_comes_back(make, backends):
    pool = make(size_min=2, size_max=2)

    with pool.checkout() as connection:
        pool.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)

    wait_until(lambda: backends() == 0)


def test_end_of_the_with_block_closes_the_pool(make, backends):
    with make(size_min=2, size_max=2) as pool, pool.checkout():
        assert backends() == 2

    wait_until(lambda: backends() == 0)


def test_connection_is_replaced_at_the_end_of_its_life(make):
    pool = make(size_min=1, size_max=1, lifetime_max_s=0.001)

    pids = set()
    for _ in range(3):
        with pool.checkout() as connection:
            pids.add(pid_of(connection))
            connection.execute("SELECT pg_sleep(0.01)")

    assert len(pids) == 3


def test_ledger_names_the_line_that_holds_a_connection(make):
    pool = make(size_min=2, size_max=2)

    with pool.checkout():
        (held,) = pool.borrowed_at()

    assert "test_pools.py" in held
    assert held.endswith("in test_ledger_names_the_line_that_holds_a_connection")
    assert pool.borrowed_at() == []


def test_no_password_in_any_repr(make, postgres):
    pool = make(size_min=1, size_max=1)
    password = postgres.connect_arguments()["password"]

    assert password not in repr(pool) + repr(vars(pool)) + repr(pool.stats())


@pytest.mark.parametrize(
    "config",
    [
        {"size_min": -1},
        {"size_min": 5, "size_max": 4},
        {"size_min": 0, "size_max": 0},
        {"checkout_timeout_s": -1},
        {"connect_timeout_s": 0},
        {"lifetime_max_s": 0},
    ],
    ids=repr,
)
def test_impossible_sizes_are_refused(config):
    with pytest.raises(ConfigError, match=next(reversed(config))):
        PoolConfig(**config)
