"""Suspension, wakes, failovers and limits that pass with time, met by real psycopg."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from databricks.sdk.service.postgres import (
    Endpoint,
    EndpointSpec,
    EndpointStatusState,
)
from google.protobuf.field_mask_pb2 import FieldMask

from harness.clock import SYSTEM_CLOCK

DAY_S = 86_400


def until(condition, *, patience_s=15.0):
    """Ask again until it is so; what stays untrue fails the test."""
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(patience_s * 1e9)
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "it never came true"
        SYSTEM_CLOCK.sleep(0.01)


def ended_by_suspension(standin):
    """A slow login may find the compute suspended; what counts is who was ended."""
    return sum(entry["ended"] for entry in standin.journal("suspend"))


def buffers_read(connection, query):
    plan = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
    return plan.fetchone()[0][0]["Plan"]["Shared Read Blocks"]


def test_suspended_compute_ends_its_sessions_and_wakes_cold(
    make_lakebase_standin, mint, log_in, client_of
):
    standin = make_lakebase_standin(wake_s=0.4)
    token = mint(standin)
    postgres = client_of(standin).postgres
    count = "SELECT count(*) FROM films"
    with log_in(standin, token) as before:
        before.execute("CREATE TABLE films AS SELECT * FROM generate_series(1, 90000)")
        before.execute("CREATE TEMP TABLE mine (x int)")
        buffers_read(before, count)
        assert buffers_read(before, count) == 0, "warm before"

        standin.suspend()

        assert postgres.get_endpoint(standin.endpoint).status.current_state is (
            EndpointStatusState.IDLE
        )
        with pytest.raises(psycopg.errors.AdminShutdown):
            before.execute("SELECT 1")
    begin_ns = SYSTEM_CLOCK.monotonic_ns()
    with log_in(standin, token) as after:
        assert SYSTEM_CLOCK.monotonic_ns() - begin_ns >= 0.4e9
        assert buffers_read(after, count) > 100, "cold after"
        assert after.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    begin_ns = SYSTEM_CLOCK.monotonic_ns()
    log_in(standin, token).close()
    assert SYSTEM_CLOCK.monotonic_ns() - begin_ns < 0.4e9, "it wakes once"
    (suspend,) = standin.journal("suspend")
    assert suspend["buffers_left"] == 0
    assert len(standin.journal("wake")) == 1


def test_compute_suspends_when_nothing_is_asked_of_it(make_lakebase_standin, log_in):
    standin = make_lakebase_standin(suspend_after_s=300, time_scale=300, wake_s=0)
    with log_in(standin) as connection:
        connection.execute("SELECT pg_sleep(1.5)")  # longer than the second
        assert ended_by_suspension(standin) == 0
        connection.execute("BEGIN")
        SYSTEM_CLOCK.sleep(1.5)
        connection.execute("COMMIT")
        assert ended_by_suspension(standin) == 0, "a transaction keeps it awake"

        until(lambda: ended_by_suspension(standin))
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")
    log_in(standin).close()
    assert standin.stats()["wakes"] >= 1


def test_open_connection_keeps_the_compute_awake_if_it_is_said_to(
    make_lakebase_standin, log_in
):
    standin = make_lakebase_standin(
        suspend_after_s=300, time_scale=1500, wake_s=0, connections_keep_awake=True
    )
    with log_in(standin) as connection:
        SYSTEM_CLOCK.sleep(0.8)  # four times what it takes without
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert ended_by_suspension(standin) == 0
    until(lambda: standin.stats()["state"] == "SUSPENDED")


def test_session_without_traffic_ends_after_a_day(make_lakebase_standin, log_in):
    standin = make_lakebase_standin(time_scale=DAY_S / 2)
    # An hour passes in a twelfth of a second: too soon for a login on a busy machine.
    standin.set_token_life(60.0)
    with log_in(standin) as idle, log_in(standin) as used:
        pid = idle.info.backend_pid

        def is_over():
            used.execute("SELECT 1")
            return standin.journal("kill")

        until(is_over)
        with pytest.raises(psycopg.OperationalError) as caught:
            idle.execute("SELECT 1")
        assert caught.value.sqlstate in {"57P05", None}
        (kill,) = standin.journal("kill")
        assert kill["reason"] == "idle"
        assert 2.0 <= kill["idle_s"] < 4.0
        assert kill["pid"] == pid


def test_session_ends_after_three_days_whatever_it_does(make_lakebase_standin, log_in):
    standin = make_lakebase_standin(time_scale=3 * DAY_S)
    standin.set_token_life(60.0)
    with log_in(standin) as connection:

        def use():
            while True:
                connection.execute("SELECT 1")

        with pytest.raises(psycopg.OperationalError):
            use()
        (kill,) = standin.journal("kill")
    assert kill["reason"] == "old"
    assert 1.0 <= kill["age_s"] < 2.5


def test_failover_ends_a_running_query_and_spares_the_replica(
    make_lakebase_standin, mint, log_in
):
    standin = make_lakebase_standin(failover_s=0.3)
    token = mint(standin)
    host = standin.host(replica=True)
    with (
        log_in(standin, token) as primary,
        log_in(standin, token, host=host) as replica,
    ):
        primary.pgconn.send_query(b"SELECT pg_sleep(60)")
        primary.pgconn.flush()
        standin.fail_over()
        result = primary.pgconn.get_result()
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57P01"
        while primary.pgconn.get_result() is not None:
            pass
        assert replica.execute("SELECT 1").fetchone() == (1,)
        primary.close()
    log_in(standin, token).close()
    (failover,) = standin.journal("failover")
    assert failover["ended"] == 1


def test_there_is_no_primary_while_it_fails_over(make_lakebase_standin, mint, log_in):
    standin = make_lakebase_standin(failover_s=1.0)
    token, _ = mint(standin), standin.host()
    failing = threading.Thread(target=standin.fail_over)
    failing.start()

    def log_in_until_refused():
        while True:
            log_in(standin, token).close()

    with pytest.raises(psycopg.OperationalError, match="starting up"):
        log_in_until_refused()
    failing.join(timeout=15)
    assert standin.journal("login")[-1]["sqlstate"] == "57P03"
    log_in(standin, token).close()


def test_resize_by_the_sdk_ends_sessions_and_changes_the_limit(
    make_lakebase_standin, client_of, log_in
):
    standin = make_lakebase_standin(failover_s=0)
    with log_in(standin) as before:
        spec = EndpointSpec(
            endpoint_type=None, autoscaling_limit_min_cu=2, autoscaling_limit_max_cu=4
        )
        client_of(standin).postgres.update_endpoint(
            standin.endpoint, Endpoint(spec=spec), FieldMask(paths=["spec"])
        )
        with pytest.raises(psycopg.errors.AdminShutdown):
            before.execute("SELECT 1")
    with log_in(standin) as after:
        assert after.execute("SHOW max_connections").fetchone() == ("419",)


def test_many_logins_at_once_wake_it_once(make_lakebase_standin, mint, log_in):
    standin = make_lakebase_standin(wake_s=0.3)
    token = mint(standin)
    standin.suspend()

    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: log_in(standin, token), range(8)))
    for connection in opened:
        connection.close()

    assert len(standin.journal("wake")) == 1
    assert standin.stats()["wakes"] == 1
