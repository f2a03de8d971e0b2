"""What a checkout gives, and what it leaves behind."""

from __future__ import annotations

import psycopg
import pytest

from harness.errors import ConfigError
from harness.postgres.pool import PoolConfig


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


def test_a_returned_connection_is_used_again(make, pid_of):
    pool = make(size_min=1, size_max=4)

    pids = set()
    for _ in range(5):
        with pool.checkout() as connection:
            pids.add(pid_of(connection))

    assert len(pids) == 1


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


def test_failed_transaction_is_cleaned_up(make, pid_of):
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


def test_statement_timeout_holds_on_every_connection(make):
    pool = make(size_min=1, size_max=1, statement_timeout_s=0.05)

    with (
        pytest.raises(psycopg.errors.QueryCanceled),
        pool.checkout() as connection,
    ):
        connection.execute("SELECT pg_sleep(5)")


def test_every_connection_asks_for_fresh_arguments(make, server_as):
    asked = []
    server = server_as()
    given = server.connect_arguments

    def counted():
        asked.append(1)
        return given()

    server.connect_arguments = counted
    pool = make(server, size_min=1, size_max=2)
    before = len(asked)
    with pool.checkout(), pool.checkout():
        pass

    assert len(asked) == before + 1


def test_ledger_names_the_line_that_holds_a_connection(make):
    pool = make(size_min=2, size_max=2)

    with pool.checkout():
        (held,) = pool.borrowed_at()

    assert "test_checkout.py" in held
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
