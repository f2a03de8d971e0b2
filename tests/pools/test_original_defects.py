"""What the pool that this one replaces got wrong: one test for each defect."""

from __future__ import annotations

import threading

import psycopg
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool

PATIENCE_S = 30.0


def test_overflow_is_opened_at_once_and_not_after_the_checkout_timeout(make):
    """The original waited its whole 30 s for connection 2 of 1 + 1."""
    pool = make(size_min=1, size_max=2, checkout_timeout_s=PATIENCE_S)
    with pool.checkout(), pool.checkout():
        waited_s = pool.metrics().connect_time.quantile(1.0) / NS_PER_S
        assert pool.stats().size == 2
    longest_s = pool.metrics().checkout_wait.quantile(1.0) / NS_PER_S
    assert longest_s < PATIENCE_S / 2, f"one connect took {waited_s} s"


def test_cap_holds_when_sixteen_threads_ask_at_once(make, backends):
    """The original checked first and counted later: 16 connections for a cap of 6."""
    pool = make(size_min=4, size_max=6, checkout_timeout_s=PATIENCE_S)
    start, six_out = threading.Barrier(16), threading.Barrier(6)
    seen, errors = [], []

    def ask():
        start.wait(PATIENCE_S)
        try:
            with pool.checkout():
                try:
                    # Six hold theirs until the server has counted; the other ten
                    # ask meanwhile, and find the barrier broken later.
                    if six_out.wait(PATIENCE_S) == 0:
                        seen.append(backends())
                        six_out.abort()
                except threading.BrokenBarrierError:
                    pass
        except Exception as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not errors
    assert seen == [6]
    assert pool.metrics().opened_count == 6
    assert pool.metrics().checkins_count == 16


def test_broken_connections_give_their_places_back(make, kill, pid_of):
    """The original lost a place for ever with each: after four it was exhausted."""
    pool = make(size_min=1, size_max=2, checkout_timeout_s=PATIENCE_S)
    for round_ in range(6):
        with pool.checkout() as connection:
            if round_ % 2 == 0:
                connection.close()
                continue
            kill(pid_of(connection))
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
    with pool.checkout() as one, pool.checkout() as two:
        assert pid_of(one) != pid_of(two)
    assert pool.stats().in_use == 0
    assert pool.metrics().checkins_count == pool.metrics().checkouts_count == 8


def test_connection_that_is_too_old_is_replaced(make, pid_of, eventually):
    """The original never noted when a connection was made."""
    pool = make(size_min=1, size_max=1, lifetime_max_s=1000.0)
    with pool.checkout() as connection:
        first = pid_of(connection)
    now_ns = SYSTEM_CLOCK.monotonic_ns()
    pool.maintain(now_ns=now_ns + 800 * NS_PER_S)
    with pool.checkout() as connection:
        assert pid_of(connection) == first, "90 % of its life at the least"
    pool.maintain(now_ns=SYSTEM_CLOCK.monotonic_ns() + 1001 * NS_PER_S)
    eventually(lambda: pool.stats().idle == 1)
    with pool.checkout() as connection:
        assert pid_of(connection) != first


def test_new_connections_log_in_with_a_new_token(make_lakebase_standin):
    """The original's refresh called a method that did not exist."""
    standin = make_lakebase_standin()
    server = standin.server()
    config = PoolConfig(size_min=1, size_max=1, checkout_timeout_s=PATIENCE_S)
    try:
        with PsycopgPool(server, config) as pool:
            assert standin.revoke_tokens() == 1
            pool.drain()
            with pool.checkout() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            assert len(standin.minted_tokens()) == 2
    finally:
        server.close()


def test_timeout_of_zero_does_not_wait(make):
    """The original took 0 for "not given" and waited its whole default."""
    pool = make(size_min=1, size_max=1, checkout_timeout_s=PATIENCE_S)
    with (
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(timeout_s=0),
    ):
        pass
    assert caught.value.waited_s < PATIENCE_S / 10


def test_pool_is_filled_in_parallel(make, server_as):
    """The original opened one connection each half second.

    The first one tells whether the server takes us at all. The other four meet here:
    opened one after another, none of them would ever be opened.
    """
    server = server_as()
    given, lock, calls = server.connect_arguments, threading.Lock(), []
    meeting = threading.Barrier(4)

    def connect_arguments():
        with lock:
            calls.append(None)
            is_first = len(calls) == 1
        if not is_first:
            meeting.wait(PATIENCE_S)
        return given()

    server.connect_arguments = connect_arguments
    assert make(server, size_min=5, size_max=5).stats().size == 5
    assert not meeting.broken


def test_times_of_a_checkout_are_this_pools(make):
    """The original sent them to a monitor of the whole process, which nobody read."""
    pool, other = make(size_min=1, size_max=1), make(size_min=1, size_max=1)
    with pool.checkout() as connection:
        connection.execute("SELECT pg_sleep(0.05)")
    metrics = pool.metrics()
    assert len(metrics.checkout_wait) == len(metrics.usage_time) == 1
    assert metrics.usage_time.quantile(0.5) >= 0.05 * NS_PER_S * 0.99
    assert len(other.metrics().checkout_wait) == 0
