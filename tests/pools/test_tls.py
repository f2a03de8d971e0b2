"""No connection of a pool goes in the clear, except to a host that a setting names."""

from __future__ import annotations

import psycopg_pool
import pytest
import sqlalchemy

from harness.errors import ConfigError, TargetError
from harness.lakebase.adopt import connect_kwargs, engine_kwargs
from harness.lakebase.pools import open_pool, pool_config
from harness.postgres.connect import connect
from harness.postgres.opening import check_tls
from harness.postgres.pool import PoolConfig
from harness.settings import load_settings


@pytest.fixture
def plain(standin_postgres):
    """A real server that offers no TLS."""
    assert standin_postgres.info.tls is None
    return standin_postgres


@pytest.fixture
def open_by(tmp_path):
    """Return a function: a pool of the size and rules that settings ask for."""
    pools = []

    def open_by(server, kind="psycopg", **environ):
        environ = {"DB_POOL_SIZE": "1", "DB_MAX_OVERFLOW": "1", **environ}
        config = pool_config(load_settings(environ=environ, cwd=tmp_path))
        pools.append(open_pool(kind, server, config))
        return pools[-1]

    yield open_by
    for pool in pools:
        pool.close()


@pytest.mark.parametrize("kind", ["psycopg", "queue"])
def test_server_without_tls_is_refused_unless_its_host_is_named(plain, open_by, kind):
    with pytest.raises(TargetError, match="SSL_PLAINTEXT_HOSTS"):
        open_by(plain, kind, SSL_PLAINTEXT_HOSTS="db.example.com")
    named = open_by(plain, kind, SSL_PLAINTEXT_HOSTS="db.example.com,127.0.0.1")
    with named.checkout() as connection:
        assert not connection.pgconn.ssl_in_use
    with open_by(plain, kind, SSL_REQUIRE="false").checkout() as connection:
        assert not connection.pgconn.ssl_in_use


def test_server_that_has_tls_is_held_to_it_whatever_its_mode(
    postgres, server_as, open_by
):
    """Its host is this machine's, which may do without by default."""
    assert postgres.info.tls
    lax = server_as(sslmode="disable")
    with open_by(lax).checkout() as connection:
        assert connection.pgconn.ssl_in_use


def test_stricter_mode_is_kept(server_as, open_by):
    strict = server_as(sslmode="verify-full", sslrootcert="/nowhere.crt")
    with pytest.raises(TargetError, match="certificate"):
        open_by(strict)


def test_libraries_of_their_own_are_held_to_it_too(plain):
    config = PoolConfig(size_min=1, size_max=1, tls_required=True)
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", **engine_kwargs(plain, config)
    )
    with pytest.raises(TargetError, match="SSL_PLAINTEXT_HOSTS"):
        engine.connect()
    pool = psycopg_pool.ConnectionPool(
        kwargs=connect_kwargs(plain, config), min_size=0, max_size=1, open=True
    )
    with (
        pool,
        pytest.raises(psycopg_pool.PoolTimeout),
        pool.connection(timeout=1.0),
    ):
        pass


def test_connection_in_the_clear_is_refused_by_the_clients_own_state(plain):
    """Whatever was asked for: what libpq says of the open connection decides."""
    with connect(plain.connect_arguments()) as connection:
        check_tls(connection, PoolConfig(tls_required=False))
        named = PoolConfig(tls_required=True, plaintext_hosts=("127.0.0.1",))
        check_tls(connection, named)
        with pytest.raises(ConfigError, match="SSL_PLAINTEXT_HOSTS"):
            check_tls(connection, PoolConfig(tls_required=True))
