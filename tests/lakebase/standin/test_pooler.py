"""The pooled host: PgBouncer's rules in transaction mode, met by real psycopg."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from harness.lakebase.standin.wire import Framer


@pytest.fixture
def log_in_pooled():
    """Return a function that opens a connection to the pooled host."""

    def make(standin, *, prepares=None, password=None, **arguments):
        password = password or standin.native_password.get_secret_value()
        defaults = {
            "user": standin.native_role,
            "host": standin.host(pooled=True),
            "prepare_threshold": prepares,
        }
        return psycopg.connect(
            **standin.connect_arguments(password, **(defaults | arguments)),
            autocommit=True,
        )

    return make


def test_native_role_logs_in_and_a_token_does_not(
    make_lakebase_standin, mint, log_in_pooled
):
    standin = make_lakebase_standin()
    with log_in_pooled(standin) as connection:
        row = connection.execute("SELECT current_user").fetchone()
        assert row == (standin.native_role,)
    with pytest.raises(psycopg.OperationalError, match="password authentication"):
        log_in_pooled(standin, user=standin.user, password=mint(standin))
    assert standin.journal("login")[-1]["reason"] == "a token on the pooled host"


def test_many_clients_share_few_servers(make_lakebase_standin, log_in_pooled):
    standin = make_lakebase_standin(pool_size=2)
    with ThreadPoolExecutor(8) as threads:
        clients = list(threads.map(lambda _: log_in_pooled(standin), range(16)))
        pids = set(
            threads.map(
                lambda c: c.execute("SELECT pg_backend_pid()").fetchone()[0],
                clients,
            )
        )
    for client in clients:
        client.close()

    assert 1 <= len(pids) <= 2
    assert standin.stats()["primary_peak"] <= 2


def test_busy_clients_have_no_more_servers_than_clients(
    make_lakebase_standin, log_in_pooled
):
    standin = make_lakebase_standin()

    def work(client):
        for _ in range(150):
            client.execute("SELECT 1")

    clients = [log_in_pooled(standin) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, clients))
    for client in clients:
        client.close()

    assert standin.stats()["primary_peak"] <= 6


def test_transaction_has_one_server_to_its_end(make_lakebase_standin, log_in_pooled):
    standin = make_lakebase_standin(pool_size=2)
    pid = "SELECT pg_backend_pid()"
    first, second = log_in_pooled(standin), log_in_pooled(standin)
    with first, second, first.transaction():
        mine = first.execute(pid).fetchone()
        assert second.execute(pid).fetchone() != mine
        assert first.execute(pid).fetchone() == mine


def test_session_state_does_not_follow_the_client(make_lakebase_standin, log_in_pooled):
    """The next transaction runs on another server, which knows nothing of it."""
    standin = make_lakebase_standin(pool_size=2)
    with log_in_pooled(standin) as first, log_in_pooled(standin) as second:
        first.execute("SET statement_timeout = '1234ms'")
        with second.transaction():
            second.execute("SELECT 1")  # the server that first has used
            assert first.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_prepared_statement_is_refused_and_the_session_goes_on(
    make_lakebase_standin, log_in_pooled
):
    standin = make_lakebase_standin()
    with log_in_pooled(standin, prepares=5) as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="switch them off"):
            connection.execute("SELECT %s::int", (1,), prepare=True)
        assert connection.execute("SELECT %s::int", (2,)).fetchone() == (2,)


def test_wait_for_a_server_has_an_end(make_lakebase_standin, log_in_pooled):
    """Two minutes at the service, a fifth of a second at this scale."""
    standin = make_lakebase_standin(pool_size=1, time_scale=600)
    first, second = log_in_pooled(standin), log_in_pooled(standin)
    with first, second, first.transaction():
        first.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            second.execute("SELECT 1")
        assert first.execute("SELECT 1").fetchone() == (1,)
    assert len(standin.journal("queue_timeout")) == 1


def test_client_that_leaves_in_a_transaction_takes_its_server_along(
    make_lakebase_standin, log_in_pooled
):
    standin = make_lakebase_standin(pool_size=1)
    leaver = log_in_pooled(standin)
    leaver.execute("CREATE TABLE films (x int)")
    leaver.execute("BEGIN")
    leaver.execute("INSERT INTO films VALUES (1)")
    leaver.close()

    with log_in_pooled(standin) as connection:
        assert connection.execute("SELECT count(*) FROM films").fetchone() == (0,)


def test_startup_options_are_refused(make_lakebase_standin, log_in_pooled):
    with pytest.raises(psycopg.OperationalError, match="startup parameter: options"):
        log_in_pooled(make_lakebase_standin(), options="-c statement_timeout=1s")


def test_pipeline_and_copy_pass_whole(make_lakebase_standin, log_in_pooled):
    standin = make_lakebase_standin(pool_size=1)
    with log_in_pooled(standin) as connection:
        connection.execute("CREATE TABLE films (x int)")
        with connection.pipeline() as pipeline:
            for number in range(100):
                connection.execute("INSERT INTO films VALUES (%s)", (number,))
                if number % 10 == 0:
                    pipeline.sync()
        with connection.cursor().copy("COPY films FROM STDIN") as copy:
            for number in range(100, 5000):
                copy.write_row((number,))
        row = connection.execute("SELECT count(*), sum(x) FROM films").fetchone()
    assert row == (5000, sum(range(5000)))


def test_failover_ends_pooled_clients_too(make_lakebase_standin, log_in_pooled):
    standin = make_lakebase_standin(failover_s=0)
    with log_in_pooled(standin) as before:
        standin.fail_over()
        with pytest.raises(psycopg.OperationalError):
            before.execute("SELECT 1")
    # As behind PgBouncer, one more client may be given a server that is just ending.
    for attempts_left in reversed(range(3)):
        try:
            with log_in_pooled(standin) as after:
                assert after.execute("SELECT 1").fetchone() == (1,)
                break
        except psycopg.OperationalError:
            assert attempts_left


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_end_of_a_message_is_found_however_the_stream_is_cut(size):
    stream = (
        b"D\0\0\0\x0cZ\0\0\0\x05I??"  # data that looks like a ReadyForQuery
        b"n\0\0\0\x04"
        b"Z\0\0\0\x05T"
        b"C\0\0\0\x06x\0"
        b"Z\0\0\0\x05I"
    )
    framer, found = Framer(), []
    for at in range(0, len(stream), size):
        found += framer.statuses(stream[at : at + size])

    assert found == [b"T", b"I"]
