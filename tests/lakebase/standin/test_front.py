"""What real psycopg meets at the stand-in's front: logins, TLS, limits."""

from __future__ import annotations

import socket
import struct

import psycopg
import pytest

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.standin.session import with_limit

REFUSED = "password authentication failed"


def until(condition, *, patience_s=15.0):
    """Ask again until it is so; what stays untrue fails the test."""
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(patience_s * 1e9)
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "it never came true"
        SYSTEM_CLOCK.sleep(0.01)


def test_token_logs_in_as_its_identity(shared_standin, log_in):
    with log_in(shared_standin) as connection:
        row = connection.execute("SELECT current_user, session_user").fetchone()

    assert row == (shared_standin.user, shared_standin.user)


def test_service_principal_logs_in_as_itself(shared_standin, client_of, log_in):
    client = client_of(
        shared_standin,
        auth_type="oauth-m2m",
        client_id=shared_standin.client_id,
        client_secret=shared_standin.client_secret.get_secret_value(),
    )
    answer = client.database.generate_database_credential(
        instance_names=[shared_standin.instance]
    )
    instance = client.database.get_database_instance(shared_standin.instance)

    with log_in(
        shared_standin,
        answer.token,
        host=instance.read_write_dns,
        user=shared_standin.client_id,
    ) as connection:
        row = connection.execute("SELECT current_user").fetchone()
    assert row == (shared_standin.client_id,)


def test_each_token_ends_on_its_own_and_open_sessions_live_on(
    make_lakebase_standin, mint, log_in
):
    standin = make_lakebase_standin()
    standin.set_token_life(1.0)
    first = mint(standin)
    standin.set_token_life(None)
    second = mint(standin)
    with log_in(standin, first) as opened:

        def log_in_until_refused():
            while True:
                log_in(standin, first).close()

        with pytest.raises(psycopg.OperationalError, match=REFUSED):
            log_in_until_refused()
        assert opened.execute("SELECT 1").fetchone() == (1,)
        log_in(standin, second).close()

    (*good, bad), last = standin.journal("login")[:-1], standin.journal("login")[-1]
    assert {entry["sqlstate"] for entry in good} == {"00000"}
    assert (bad["sqlstate"], bad["reason"], bad["token"]) == ("28P01", "expired", 1)
    assert last["token"] == 2
    # Not before its time.
    (minted, _) = standin.requests("credentials")
    assert bad["at_s"] - minted["at_s"] >= 1.0


def test_password_that_is_no_token_of_this_database_is_refused(
    make_lakebase_standin, client_of, mint, log_in
):
    standin = make_lakebase_standin()
    other = mint(make_lakebase_standin())
    of_instance = client_of(standin).database.generate_database_credential(
        instance_names=[standin.instance]
    )
    passwords = {
        "unknown": [standin.token.get_secret_value(), "", other],
        "another database's": [of_instance.token],
    }
    for reason, wrong in passwords.items():
        for password in wrong:
            with pytest.raises(psycopg.OperationalError, match=REFUSED):
                log_in(standin, password or "x")
            assert standin.journal("login")[-1]["reason"] == reason
    with pytest.raises(psycopg.OperationalError, match=REFUSED):
        log_in(standin, user=standin.client_id)
    assert standin.journal("login")[-1]["reason"] == "another user's"


def test_revoked_tokens_end_logins_and_no_session(make_lakebase_standin, mint, log_in):
    standin = make_lakebase_standin()
    token = mint(standin)
    with log_in(standin, token) as opened:
        assert standin.revoke_tokens() == 1
        with pytest.raises(psycopg.OperationalError, match=REFUSED):
            log_in(standin, token)
        assert opened.execute("SELECT 1").fetchone() == (1,)


def test_refusal_carries_its_sqlstate_on_the_wire(make_lakebase_standin):
    """Libpq keeps it to itself, so the bytes are read here."""
    standin = make_lakebase_standin(tls=False)
    body = struct.pack("!I", 3 << 16) + b"user\0nobody\0database\0x\0\0"
    with socket.create_connection(("127.0.0.1", standin.port), timeout=10) as raw:
        raw.sendall(struct.pack("!I", len(body) + 4) + body)
        assert raw.recv(9) == b"R\0\0\0\x08\0\0\0\x03"
        raw.sendall(b"p" + struct.pack("!I", 4 + 6) + b"wrong\0")
        answer = raw.makefile("rb").read()

    assert answer.startswith(b"E")
    assert b"\0C28P01\0" in answer
    assert b"SFATAL\0" in answer


def test_connection_without_tls_is_refused(shared_standin, log_in):
    with pytest.raises(psycopg.OperationalError, match="use sslmode=require"):
        log_in(shared_standin, sslmode="disable")


def test_certificate_is_good_for_every_host_and_no_other(
    shared_standin, log_in, tmp_path
):
    for options in ({}, {"replica": True}):
        with log_in(shared_standin, host=shared_standin.host(**options)) as connection:
            assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="does not match"):
        log_in(shared_standin, host="localhost")
    from harness.postgres.tls import make_certificate

    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(make_certificate().certificate_pem)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        log_in(shared_standin, sslrootcert=str(stranger))


def test_client_without_host_name_is_refused_unless_it_names_the_endpoint(
    shared_standin, log_in
):
    nameless = {"host": "127.0.0.1", "sslmode": "require", "sslrootcert": None}
    with pytest.raises(psycopg.OperationalError, match="no host name"):
        log_in(shared_standin, **nameless)
    uid = shared_standin.host().partition(".")[0]

    options = f"endpoint={uid} -c statement_timeout=1234"
    with log_in(shared_standin, options=options, **nameless) as connection:
        row = connection.execute("SHOW statement_timeout").fetchone()
    assert row == ("1234ms",)


def test_unknown_host_is_refused_by_name(shared_standin, log_in):
    with pytest.raises(psycopg.OperationalError, match=r"ep-none\.database"):
        log_in(shared_standin, host="ep-none.database.localhost")


def test_tls_from_the_first_byte_is_understood(shared_standin, log_in):
    with log_in(shared_standin, sslnegotiation="direct") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_limit_is_that_of_the_compute(make_lakebase_standin, mint, log_in):
    standin = make_lakebase_standin(cu=0.5)
    token = mint(standin)
    opened = [log_in(standin, token) for _ in range(104)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            log_in(standin, token)
        assert standin.journal("login")[-1]["sqlstate"] == "53300"
        opened.pop().close()
        until(lambda: standin.stats()["primary_taken"] == 103)
        log_in(standin, token).close()
    finally:
        for connection in opened:
            connection.close()
    assert standin.stats()["primary_peak"] == 104


@pytest.mark.parametrize("statement", ["SHOW max_connections", "show max_connections;"])
def test_server_says_the_limit_of_the_compute(shared_standin, log_in, statement):
    with log_in(shared_standin) as connection:
        assert connection.execute(statement).fetchone() == ("209",)
        assert connection.execute(statement, prepare=True).fetchone() == ("209",)
        row = connection.execute(
            "SELECT current_setting('max_connections')::int - %s", (9,)
        ).fetchone()
        assert row == (200,)


def test_statement_that_only_mentions_the_limit_is_left_alone():
    text = b"SELECT 'show max_connections'\0"
    for data in (
        b"Q" + struct.pack("!I", len(text) + 4) + text,
        b"Q" + struct.pack("!I", 4000) + text,
        b"d" + struct.pack("!I", len(text) + 4) + text,
    ):
        assert with_limit(data, 209) == data


def test_client_that_vanishes_gives_its_slot_back(make_lakebase_standin, log_in):
    standin = make_lakebase_standin()
    connection = log_in(standin)
    assert standin.stats()["primary_taken"] == 1

    vanish = socket.socket(fileno=connection.pgconn.socket)
    vanish.shutdown(socket.SHUT_RDWR)
    vanish.detach()

    until(lambda: standin.stats()["primary_taken"] == 0)
    connection.close()


def test_missing_database_is_postgres_own_refusal(shared_standin, log_in):
    with pytest.raises(psycopg.OperationalError, match='"nowhere" does not exist'):
        log_in(shared_standin, dbname="nowhere")
    assert shared_standin.journal("login")[-1]["sqlstate"] == "3D000"


def test_query_can_be_cancelled(shared_standin, log_in):
    with log_in(shared_standin) as connection:
        pid = connection.info.backend_pid
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        connection.pgconn.flush()
        with log_in(shared_standin) as watcher:
            until(
                lambda: watcher.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
                    " AND query LIKE '%%pg_sleep%%'",
                    (pid,),
                ).fetchone()
            )
        connection.cancel_safe(timeout=10)
        result = connection.pgconn.get_result()
        assert connection.pgconn.get_result() is None
    assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"


def test_every_byte_of_a_large_copy_arrives_both_ways(make_lakebase_standin, log_in):
    standin = make_lakebase_standin()
    block = bytes(range(97, 123)) * 4000
    with log_in(standin) as connection:
        connection.execute("CREATE TABLE big (line text)")
        with connection.cursor().copy("COPY big FROM STDIN") as copy:
            for _ in range(200):
                copy.write(block + b"\n")
        with connection.cursor().copy("COPY big TO STDOUT") as copy:
            received = b"".join(copy)

    assert received == (block + b"\n") * 200


def test_replica_reads_what_was_written_and_writes_nothing(
    make_lakebase_standin, log_in
):
    standin = make_lakebase_standin()
    with log_in(standin) as primary:
        primary.execute("CREATE TABLE films AS SELECT 7 AS stars")
    with log_in(standin, host=standin.host(replica=True)) as replica:
        assert replica.execute("SELECT stars FROM films").fetchone() == (7,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("DELETE FROM films")


def test_standins_on_one_postgres_do_not_see_each_other(make_lakebase_standin, log_in):
    first, second = make_lakebase_standin(), make_lakebase_standin()
    with log_in(first) as connection:
        connection.execute("CREATE TABLE mine (x int)")
    with log_in(second) as connection:
        row = connection.execute("SELECT to_regclass('mine')").fetchone()
    assert row == (None,)


def test_standin_leaves_the_postgres_as_it_was(standin_postgres, log_in):
    from harness.lakebase.standin.standin import LakebaseStandin

    def everything():
        with psycopg.connect(**standin_postgres.connect_arguments()) as admin:
            return set(
                admin.execute(
                    "SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles"
                )
            )

    before = everything()
    with LakebaseStandin(backing=standin_postgres) as standin:
        log_in(standin).close()
        assert len(everything() - before) == 4
    assert everything() == before
