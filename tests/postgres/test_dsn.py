"""A connection string: TLS wherever it is offered, and never quoted."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from harness.errors import TargetError
from harness.postgres.connect import connect
from harness.postgres.dsn import open_dsn, parse_dsn
from harness.postgres.plaintext import forbidden_host

CANARY = "canary"


def dsn_of(server, **options):
    a = server.connect_arguments()
    query = "&".join(f"{name}={quote(text)}" for name, text in options.items())
    return (
        f"postgresql://{a['user']}:{quote(a['password'])}@{a['host']}:{a['port']}"
        f"/{a['dbname']}?{query}"
    )


@pytest.fixture
def open_own(make_settings):
    def open_it(dsn, **environ):
        settings = make_settings(
            LAKEGAUGE_TARGET="dsn", LAKEGAUGE_POSTGRES_DSN=dsn, **environ
        )
        return open_dsn(settings, reason="for a test")

    return open_it


@pytest.fixture(scope="module")
def plain(make_settings):
    """A server that offers no TLS."""
    from harness.postgres.embedded import start_embedded

    server = start_embedded(make_settings(), reason="for a test")
    with connect(server.connect_arguments()) as admin:
        folder = admin.execute("SHOW data_directory").fetchone()[0]
        with Path(folder, "pg_hba.conf").open("a") as rules:
            rules.write("host all all 127.0.0.1/32 scram-sha-256\n")
        admin.execute("ALTER SYSTEM SET ssl = off")
        admin.execute("SELECT pg_reload_conf()")
    yield server
    server.close()


@pytest.mark.parametrize("sslmode", [None, "prefer", "allow", "disable", "require"])
def test_tls_is_used_where_it_is_offered(embedded, open_own, sslmode):
    options = {"sslmode": sslmode} if sslmode else {}
    server = open_own(dsn_of(embedded, **options))
    assert server.info.tls == embedded.info.tls
    assert server.info.target == "dsn"
    assert server.connect_arguments()["sslmode"] == "require"


def test_stricter_mode_is_kept(embedded, open_own):
    root = embedded.connect_arguments()["sslrootcert"]
    server = open_own(dsn_of(embedded, sslmode="verify-full", sslrootcert=root))
    assert server.connect_arguments()["sslmode"] == "verify-full"
    with pytest.raises(TargetError, match="certificate"):
        open_own(dsn_of(embedded, sslmode="verify-full", sslrootcert="/nowhere.crt"))


def test_stricter_default_of_libpq_is_kept(embedded, open_own, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", "/nowhere.crt")
    with pytest.raises(TargetError, match="certificate"):
        open_own(dsn_of(embedded))


def test_server_without_tls_is_taken_on_this_machine(plain, open_own):
    server = open_own(dsn_of(plain))
    assert server.info.tls is None
    with connect(server.connect_arguments()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_server_without_tls_is_refused_where_it_was_demanded(plain, open_own):
    with pytest.raises(TargetError, match="does not support SSL"):
        open_own(dsn_of(plain, sslmode="require"))


def test_server_without_tls_is_refused_unless_its_host_is_named(plain, open_own):
    with pytest.raises(TargetError, match=r"name '127.0.0.1' in SSL_PLAINTEXT_HOSTS"):
        open_own(dsn_of(plain), SSL_PLAINTEXT_HOSTS="localhost,db.example.com")
    with pytest.raises(TargetError, match="SSL_PLAINTEXT_HOSTS"):
        open_own(dsn_of(plain), SSL_PLAINTEXT_HOSTS="[]")
    named = open_own(dsn_of(plain), SSL_PLAINTEXT_HOSTS="db.example.com,127.0.0.1")
    assert named.info.tls is None
    assert open_own(dsn_of(plain), SSL_REQUIRE="false").info.tls is None


def test_permission_alone_does_not_switch_tls_off(embedded, open_own):
    assert open_own(dsn_of(embedded), SSL_REQUIRE="false").info.tls


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        ({}, None),
        ({"host": "localhost"}, None),
        ({"host": "::1"}, None),
        ({"host": "/var/run/postgresql"}, None),
        ({"host": "localhost", "hostaddr": "127.0.0.1"}, None),
        ({"host": "x.database.localhost", "hostaddr": "127.0.0.1"}, None),
        ({"host": "localhost,db.example.com"}, "db.example.com"),
        ({"host": "localhost", "hostaddr": "192.0.2.1"}, "localhost"),
        ({"host": "localhost.example.com"}, "localhost.example.com"),
        ({"host": "192.0.2.1"}, "192.0.2.1"),
        ({"hostaddr": "192.0.2.1"}, "192.0.2.1"),
    ],
)
def test_only_this_machine_may_do_without_tls_by_default(
    make_settings, arguments, host
):
    allowed = make_settings().security.plaintext_hosts
    assert forbidden_host(arguments, allowed) == host


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{CANARY}@@host/db",
        f"postgresql://u:a@{CANARY}@host/db",
        f"postgresql://u:/{CANARY}@host/db",
        f"postgresql://u:{CANARY}/x@host/db",
        f"postgresql://u:p@host:{CANARY}/db",
        f"postgresql://u:p@host/db?{CANARY}",
        f"postgresql://u:p@host/db?{CANARY}=1",
        f"host=h password=a {CANARY}",
        f"host=h password=a {CANARY}=b",
        f"host=h port={CANARY}",
        f"host=h password='{CANARY}",
    ],
)
def test_string_that_cannot_be_read_is_not_quoted(text):
    """What libpq could not read is often a piece of the password."""
    with pytest.raises(TargetError) as caught:
        parse_dsn(text, setting="LAKEGAUGE_POSTGRES_DSN")
    assert CANARY not in str(caught.value)
    assert "LAKEGAUGE_POSTGRES_DSN" in str(caught.value)
    assert "postgresql://user:password@host:port/database" in str(caught.value)
    assert caught.value.__context__ is None


def test_wrong_password_names_the_setting_and_not_the_password(embedded, open_own):
    a = embedded.connect_arguments()
    dsn = f"postgresql://{a['user']}:{CANARY}@{a['host']}:{a['port']}/{a['dbname']}"
    with pytest.raises(TargetError, match=r"LAKEGAUGE_POSTGRES_DSN.*28P01") as caught:
        open_own(dsn)
    assert CANARY not in str(caught.value)
