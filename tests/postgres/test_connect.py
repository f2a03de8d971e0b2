"""A refused connection says why, where and what to do, and never the password."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import psycopg
import pytest

from harness.errors import TargetError
from harness.postgres.connect import connect, describe_server, tls_protocol
from harness.postgres.embedded import SERVER_SETTINGS
from harness.postgres.server import ConnectArguments

CANARY = "canary-of-a-password"


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    return address[1]


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
