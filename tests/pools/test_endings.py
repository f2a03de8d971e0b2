"""Connections that die, grow old or are closed."""

from __future__ import annotations

import threading

import psycopg
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import TargetError


@pytest.mark.parametrize(
    "death", ["closed by the caller", "killed and noticed", "killed unnoticed"]
)
def test_dead_connection_gives_its_slot_back(make, death, kill, pid_of):
    """Dead connections that keep their slot exhaust a pool for good."""
    pool = make(size_min=2, size_max=2)
    pool._trusted_ns = 0  # for 10 ms after its return a connection is believed

    for _ in range(5):
        with pool.checkout() as connection:
            if death == "closed by the caller":
                connection.close()
                continue
            kill(pid_of(connection))
            if death == "killed and noticed":
                with pytest.raises(psycopg.OperationalError):
                    connection.execute("SELECT 1")

    with pool.checkout() as first, pool.checkout() as second:
        assert pid_of(first) != pid_of(second)
    assert pool.stats().size <= 2


def test_shutdown_of_the_server_drains_the_pool(make, kill, pid_of):
    """57P01 on one connection: the idle ones are replaced, the others on return."""
    pool = make(size_min=3, size_max=3)

    with pool.checkout() as out:
        stays = pid_of(out)
        before = {stays}

        def use():
            with pool.checkout() as dying:
                before.add(pid_of(dying))
                kill(pid_of(dying))
                dying.execute("SELECT 1")

        with pytest.raises(psycopg.errors.AdminShutdown):
            use()
        assert pid_of(out) == stays, "what is in use goes on"
    with pool.checkout() as a, pool.checkout() as b, pool.checkout() as c:
        after = {pid_of(connection) for connection in (a, b, c)}

    assert len(after) == 3
    assert not before & after
    assert pool.metrics().closed_count == 3


def test_connection_that_died_while_idle_is_never_given_out(make, kill, pid_of):
    """Seen in the socket, without a round trip: no error reaches the caller."""
    pool = make(size_min=1, size_max=1, liveness_idle_s=60.0)
    with pool.checkout() as connection:
        pid = pid_of(connection)
    kill(pid)
    pool._trusted_ns = 0

    with pool.checkout() as connection:
        assert pid_of(connection) != pid
    assert pool.metrics().closed_count == 1


def test_ping_only_after_idling(make):
    """SELECT 1 on every checkout doubles the round trips of a short operation."""
    asked = []

    def watch(pool):
        engine = pool._engine
        look = engine.is_alive

        def is_alive(connection, *, timeout_s):
            asked.append(timeout_s)
            return look(connection, timeout_s=timeout_s)

        engine.is_alive = is_alive

    pool = make(size_min=1, size_max=1, liveness_idle_s=600.0)
    watch(pool)
    for _ in range(10):
        with pool.checkout():
            pass
    assert asked.count(None) == len(asked), "no round trip while it is in use"

    eager = make(size_min=1, size_max=1, liveness_idle_s=0.0)
    asked.clear()
    watch(eager)
    for _ in range(10):
        with eager.checkout() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(asked) - asked.count(None) == 10


def test_lost_checkout_is_taken_back(make):
    """A thread ends with a connection in its hands; nobody else refers to it."""
    pool = make(size_min=1, size_max=1, checkout_timeout_s=2.0)
    thread = threading.Thread(target=lambda: pool.checkout().__enter__())
    thread.start()
    thread.join()
    assert pool.stats().in_use == 1

    with pool.checkout() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    assert pool.metrics().leaks_count == 1
    assert pool.stats().size == 1


def test_connection_somebody_still_holds_is_not_called_lost(make):
    """Neither a `with` block that ignores its connection nor one kept by hand."""
    pool = make(size_min=2, size_max=2)
    kept = pool.checkout().__enter__()

    with pool.checkout():
        pool.maintain()
        assert pool.stats().in_use == 2
    cursor = kept.cursor()
    del kept
    pool.maintain()
    assert pool.stats().in_use == 1

    del cursor
    pool.maintain()
    assert pool.stats().in_use == 0


def test_leak_is_told_once_with_the_stack_that_made_it(make, caplog):
    pool = make(size_min=1, size_max=1, leak_after_s=0.01)

    def careless():
        return pool.checkout()

    with careless():
        pool._supply.closing.wait(0.02)
        pool.maintain()
        pool.maintain()
        assert pool.metrics().leaks_count == 1

    told = [record.getMessage() for record in caplog.records if "out for" in record.msg]
    assert len(told) == 1
    assert "test_leak_is_told_once_with_the_stack_that_made_it" in told[0]


def test_idle_connections_above_the_minimum_are_closed(make, backends, eventually):
    pool = make(size_min=1, size_max=3, idle_max_s=3600.0)
    with pool.checkout(), pool.checkout(), pool.checkout():
        pass
    assert backends() == 3

    pool.maintain(now_ns=SYSTEM_CLOCK.monotonic_ns() + 3700 * NS_PER_S)

    eventually(lambda: (pool.stats().size, backends()) == (1, 1))


def test_aged_connections_stay_while_no_other_can_be_had(make, server_as, pid_of):
    """To close what works before knowing that its successor does empties a pool."""
    server = server_as()
    pool = make(server, size_min=1, size_max=2, checkout_timeout_s=0.3)
    with pool.checkout() as connection:
        pid = pid_of(connection)
        server.arguments = {"password": "canary-wrong"}
        with pytest.raises(TargetError), pool.checkout():
            pass
    later_ns = SYSTEM_CLOCK.monotonic_ns() + 3500 * NS_PER_S

    pool.maintain(now_ns=later_ns)

    with pool.checkout() as connection:
        assert pid_of(connection) == pid


def test_connection_is_replaced_at_the_end_of_its_life(make, pid_of):
    pool = make(size_min=1, size_max=1, lifetime_max_s=0.001)

    pids = set()
    for _ in range(3):
        with pool.checkout() as connection:
            pids.add(pid_of(connection))
            connection.execute("SELECT pg_sleep(0.01)")

    assert len(pids) == 3


def test_close_closes_idle_connections_and_refuses_more(make, backends, eventually):
    pool = make(size_min=3, size_max=3)

    pool.close()
    pool.close()

    eventually(lambda: backends() == 0)
    with pytest.raises(TargetError, match="is closed"), pool.checkout():
        pass


def test_connection_out_during_close_is_closed_when_it_comes_back(
    make, backends, eventually
):
    pool = make(size_min=2, size_max=2)

    with pool.checkout() as connection:
        pool.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)

    eventually(lambda: backends() == 0)


def test_end_of_the_with_block_closes_the_pool(make, backends, eventually):
    with make(size_min=2, size_max=2) as pool, pool.checkout():
        assert backends() == 2

    eventually(lambda: backends() == 0)
