"""A refused connection says why, where and what to do, and never the password."""

from __future__ import annotations

import asyncio
import itertools
import socket
import tempfile
from pathlib import Path

import psycopg
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK, ManualClock
from harness.errors import TargetError
from harness.postgres.classify import classify
from harness.postgres.connect import (
    connect,
    connect_async,
    describe_server,
    tls_protocol,
)
from harness.postgres.embedded import SERVER_SETTINGS
from harness.postgres.server import ConnectArguments

CANARY = "canary-of-a-password"


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    return address[1]


def failure(way, arguments, **options):
    """Return the error of a login, whichever of the twins makes it."""

    def log_in():
        result = way(arguments, **options)
        if asyncio.iscoroutine(result):
            asyncio.run(result)

    with pytest.raises(TargetError) as caught:
        log_in()
    return caught.value


def test_connection_is_in_autocommit_mode(embedded):
    with connect(embedded.connect_arguments()) as connection:
        assert connection.autocommit


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param(
            {"password": CANARY},
            ["password authentication failed", "28P01", "check the user"],
            id="wrong-password",
        ),
        pytest.param(
            {"user": "nobody-here", "password": CANARY},
            ["28P01", "user=nobody-here"],
            id="unknown-user",
        ),
        pytest.param(
            {"dbname": "no_such_db"},
            ['database "no_such_db" does not exist', "3D000", "dbname=no_such_db"],
            id="unknown-database",
        ),
        pytest.param(
            {"host": "no-such-host.invalid", "hostaddr": None, "password": CANARY},
            ["host=no-such-host.invalid", "check the host name"],
            id="unknown-host",
        ),
        pytest.param(
            {"sslmode": f"nonsense-{CANARY}", "password": CANARY},
            ["sslmode", "check the connection settings"],
            id="setting-that-libpq-refuses",
        ),
    ],
)
def test_refusal_names_reason_place_and_next_step(embedded, change, parts):
    arguments = ConnectArguments(embedded.connect_arguments() | change)
    with pytest.raises(TargetError) as caught:
        connect(arguments, setting="THE_SETTING")
    message = str(caught.value)
    assert [
        part for part in [*parts, "set by THE_SETTING"] if part not in message
    ] == []
    assert CANARY not in message
    assert "\n" not in message
    # Nothing that a traceback would print along.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_closed_port_is_refused_at_once(embedded, closed_port):
    arguments = embedded.connect_arguments()
    arguments["port"] = closed_port
    with pytest.raises(TargetError, match=rf"port={closed_port}.*refused.*check host"):
        connect(arguments)


def test_server_that_never_answers_is_given_up(embedded):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        arguments = embedded.connect_arguments()
        arguments |= {"port": mute.getsockname()[1], "connect_timeout": 2}
        with pytest.raises(TargetError, match=r"timeout expired.*firewall"):
            connect(arguments)


def test_no_free_slot_is_told_from_other_refusals(start_own):
    server = start_own()
    with connect(server.connect_arguments()) as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'pw' CONNECTION LIMIT 0")
    arguments = server.connect_arguments() | {"user": "guest", "password": "pw"}
    with pytest.raises(TargetError, match=r"too many connections.*53300"):
        connect(ConnectArguments(arguments))


def test_tls_is_what_is_used_not_what_was_asked_for(start_own):
    server = start_own()
    with connect(server.connect_arguments()) as admin:
        folder = admin.execute("SHOW data_directory").fetchone()[0]
        with Path(folder, "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
        admin.execute("ALTER SYSTEM SET ssl = off")
        admin.execute("SELECT pg_reload_conf()")
    arguments = server.connect_arguments()
    arguments["sslmode"] = "prefer"
    with connect(arguments) as connection:
        assert tls_protocol(connection) is None
        info = describe_server(connection, target="dsn", reason="why")
    assert info.tls is None
    assert server.info.tls is not None


def test_driver_errors_elsewhere_are_not_touched(embedded):
    """Only the connecting is translated: a failed statement keeps its class."""
    with (
        connect(embedded.connect_arguments()) as connection,
        pytest.raises(psycopg.errors.UndefinedTable),
    ):
        connection.execute("SELECT * FROM nowhere")


def test_unix_socket_is_never_said_to_have_tls(start_own, monkeypatch):
    """`sslmode=require` over a Unix socket silently runs without TLS."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        monkeypatch.setitem(SERVER_SETTINGS, "unix_socket_directories", folder)
        server = start_own()
        with connect(server.connect_arguments()) as admin:
            data = admin.execute("SHOW data_directory").fetchone()[0]
            with Path(data, "pg_hba.conf").open("a") as rules:
                rules.write("local all all scram-sha-256\n")
            admin.execute("SELECT pg_reload_conf()")
        arguments = server.connect_arguments()
        del arguments["hostaddr"]
        arguments |= {"host": folder, "sslmode": "require"}
        with connect(arguments) as connection:
            assert tls_protocol(connection) is None


LOGIN_CODES = [
    ("28P01", "authentication", "permanent"),
    ("28000", "authentication", "permanent"),
    ("3D000", "configuration", "permanent"),
    ("42501", "authorization", "permanent"),
    ("53300", "database_connection", "retryable"),
    ("57P01", "database_connection", "retryable"),
    ("57P03", "database_connection", "retryable"),
    ("08004", "database_connection", "retryable"),
    ("XX000", "system", "retryable"),
]


@pytest.mark.parametrize("way", [connect, connect_async])
@pytest.mark.parametrize(("sqlstate", "category", "verdict"), LOGIN_CODES)
def test_refusal_is_known_by_its_code_in_any_language(
    refuse, way, sqlstate, category, verdict
):
    """The words would mislead: they name another reason, and not in English."""
    words = "Passwort-Authentifizierung: zu viele Verbindungen; timeout expired"
    server = refuse(sqlstate, severity="SCHWERWIEGEND", words=words)

    error = failure(way, server.arguments)

    assert error.sqlstate == sqlstate
    assert words in str(error)
    found = classify(error)
    assert (found.category, found.verdict) == (category, verdict)
    assert server.logins == 1, "a refused login is not tried again"


@pytest.mark.parametrize("way", [connect, connect_async])
def test_second_address_is_not_asked_what_the_first_refused(refuse, way):
    first, second = refuse("28P01"), refuse("28P01")
    arguments = first.arguments | {
        "host": "127.0.0.1,127.0.0.1",
        "hostaddr": None,
        "port": f"{first.port},{second.port}",
    }

    assert failure(way, ConnectArguments(arguments)).sqlstate == "28P01"
    assert (first.logins, second.logins) == (1, 0)


@pytest.mark.parametrize("way", [connect, connect_async])
def test_second_address_is_asked_where_the_first_does_not_answer(
    refuse, way, closed_port
):
    second = refuse("57P03")
    arguments = second.arguments | {
        "host": "127.0.0.1,127.0.0.1",
        "hostaddr": None,
        "port": f"{closed_port},{second.port}",
    }

    assert failure(way, ConnectArguments(arguments)).sqlstate == "57P03"


@pytest.mark.parametrize("way", [connect, connect_async])
@pytest.mark.parametrize(
    ("change", "category", "verdict"),
    [
        pytest.param({"port": 9}, "network", "retryable", id="closed-port"),
        pytest.param(
            {"host": "no-such-host.invalid", "hostaddr": None},
            "network",
            "retryable",
            id="unknown-host",
        ),
        pytest.param(
            {"host": "/nowhere", "hostaddr": None}, "network", "retryable", id="socket"
        ),
        pytest.param(
            {"password": None, "passfile": "/nowhere"},
            "authentication",
            "permanent",
            id="no-password",
        ),
        pytest.param(
            {"sslmode": "verify-full", "sslrootcert": "system"},
            "configuration",
            "permanent",
            id="unknown-certificate",
        ),
        pytest.param(
            {"sslmode": "nonsense"}, "configuration", "permanent", id="option-value"
        ),
        pytest.param({"flavour": "x"}, "configuration", "permanent", id="option"),
    ],
)
def test_failure_without_a_code_tells_what_lasts_from_what_may_pass(
    embedded, way, change, category, verdict
):
    arguments = ConnectArguments(embedded.connect_arguments() | change)
    error = failure(way, arguments)

    assert error.sqlstate is None
    found = classify(error)
    assert (found.category, found.verdict) == (category, verdict)


@pytest.mark.parametrize("way", [connect, connect_async])
def test_mute_server_is_given_up_at_the_deadline(way):
    """On the injected clock: it jumps past the deadline at its second reading."""
    clock = ManualClock()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        arguments = ConnectArguments(
            host="127.0.0.1", port=mute.getsockname()[1], user="u", sslmode="disable"
        )
        clock.monotonic_ns = itertools.count(0, 6 * NS_PER_S).__next__
        error = failure(way, arguments, timeout_s=10.0, clock=clock)

    assert "timeout expired" in str(error)
    found = classify(error)
    assert (found.category, found.verdict) == ("database_timeout", "retryable")


def test_connection_made_asynchronously_works(embedded):
    async def ask():
        arguments = embedded.connect_arguments() | {"prepare_threshold": None}
        async with await connect_async(ConnectArguments(arguments)) as connection:
            assert connection.autocommit
            assert connection.prepare_threshold is None
            cursor = await connection.execute("SELECT 1")
            return await cursor.fetchone()

    assert asyncio.run(ask()) == (1,)


def test_errors_after_the_login_do_not_quote_the_servers_source(embedded):
    """Verbose messages are for the login alone; they would name a source line."""
    with (
        connect(embedded.connect_arguments()) as connection,
        pytest.raises(psycopg.errors.UndefinedTable) as caught,
    ):
        connection.execute("SELECT * FROM nowhere")
    assert "LOCATION" not in str(caught.value)


def test_wrong_password_costs_no_more_than_one_and_a_half_connects(embedded):
    """Side by side in one run; the smallest of each, so that noise cannot help."""
    arguments = embedded.connect_arguments()
    wrong = ConnectArguments(arguments | {"password": CANARY})
    right_ns, wrong_ns = [], []
    for _ in range(15):
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        connect(arguments).close()
        right_ns.append(SYSTEM_CLOCK.monotonic_ns() - started_ns)
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        with pytest.raises(TargetError, match="28P01"):
            connect(wrong)
        wrong_ns.append(SYSTEM_CLOCK.monotonic_ns() - started_ns)
    assert min(wrong_ns) <= 1.5 * min(right_ns)


@pytest.mark.parametrize("way", [connect, connect_async])
def test_arguments_may_be_a_plain_dictionary(refuse, way):
    """What `arguments | {...}` gives: it has no way to renew a password."""
    server = refuse("28P01")
    assert failure(way, server.arguments | {"dbname": "x"}).sqlstate == "28P01"
    assert server.logins == 1
