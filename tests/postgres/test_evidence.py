"""The server's own account of a phase: right, complete, and honest about its gaps."""

from __future__ import annotations

import threading

import pytest

from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.evidence import ServerEvidence, find_processes
from harness.postgres.server import AttachedServer, ConnectArguments


@pytest.fixture(scope="module")
def server(make_settings):
    """A server of this module's own: others would be counted too."""
    server = start_embedded(make_settings(), reason="for a test")
    with connect(server.connect_arguments()) as connection:
        connection.execute("CREATE TABLE things (id int PRIMARY KEY, text text)")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        connection.execute("GRANT SELECT ON things TO guest")
    yield server
    server.close()


def insert(server, *, first, rows):
    """Insert rows one by one; the connection reports its statistics as it closes."""
    with connect(server.connect_arguments()) as connection:
        for key in range(first, first + rows):
            connection.execute("INSERT INTO things VALUES (%s, %s)", (key, "x" * 50))


def test_deltas_are_those_of_the_phase(server):
    insert(server, first=0, rows=50)

    with ServerEvidence(server) as evidence:
        insert(server, first=1_000, rows=300)
        with connect(server.connect_arguments()) as connection:
            for key in range(1_000, 1_200):
                connection.execute("SELECT text FROM things WHERE id = %s", (key,))
    found = evidence.details()

    assert "missing" not in found
    assert 300 <= found["database"]["tup_inserted"] < 320
    assert 500 <= found["database"]["xact_commit"] < 700
    assert 0.5 < found["cache_hit_ratio"] <= 1
    assert found["wal"]["wal_bytes"] > 300 * 50
    assert found["dt_s"] > 0
    assert any(name.startswith("client backend/") for name in found["io"])
    by_calls = {row["calls"]: row for row in found["statements"]}
    assert by_calls[300]["query"].startswith("INSERT INTO things VALUES")
    assert by_calls[200]["query"] == "SELECT text FROM things WHERE id = $1"
    assert by_calls[200]["rows"] == 200
    assert not any("pg_stat" in row["query"] for row in found["statements"])


def test_nothing_is_reset(server):
    insert(server, first=2_000, rows=20)
    reset = "SELECT stats_reset FROM pg_stat_database WHERE datname = 'postgres'"
    with connect(server.connect_arguments()) as connection:
        before = connection.execute(reset).fetchone()
        with ServerEvidence(server):
            pass
        assert connection.execute(reset).fetchone() == before
        calls = connection.execute(
            "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE 'INSERT INTO%'"
        ).fetchone()[0]
    assert calls >= 20


def test_waits_are_sampled(server, eventually):
    """One session waits for a lock that another holds."""
    with (
        connect(server.connect_arguments()) as holder,
        connect(server.connect_arguments()) as waiter,
        ServerEvidence(server, interval_s=0.01) as evidence,
    ):
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE things")
        thread = threading.Thread(
            target=lambda: waiter.execute("SELECT count(*) FROM things")
        )
        thread.start()
        eventually(lambda: evidence._waits["Lock:relation"] >= 3, what="a wait is seen")
        holder.execute("COMMIT")
        thread.join()
    waits = evidence.details()["waits"]

    assert waits["Lock:relation"] >= 3
    assert waits["samples"] >= waits["Lock:relation"]
    assert waits["active_mean"] > 0


def test_cpu_is_that_of_the_servers_processes(server):
    """Also of backends that have ended before the second reading."""
    busy = "SELECT count(*) FROM generate_series(1, 3000000) AS i WHERE i % 7 = 3"
    with ServerEvidence(server) as idle:
        pass
    with (
        ServerEvidence(server) as working,
        connect(server.connect_arguments()) as connection,
    ):
        connection.execute(busy)
    used_s = working.details()["server_cpu_s"]

    assert used_s > 0.1
    assert used_s > 3 * idle.details()["server_cpu_s"]
    assert used_s <= working.details()["dt_s"] * 2.5


def test_processes_are_found_only_if_they_are_the_servers(server, monkeypatch):
    with connect(server.connect_arguments()) as connection:
        assert find_processes(connection) is not None
        # The number as a server elsewhere would give it.
        info = type("Info", (), {"backend_pid": 1})()
        monkeypatch.setattr(type(connection), "info", info)
        assert find_processes(connection) is None


def test_role_without_rights_gets_what_it_may_see(server):
    """The rest is named, with the server's reason, and the run goes on."""
    with connect(server.connect_arguments()) as connection:
        connection.execute("REVOKE SELECT ON pg_stat_wal FROM PUBLIC")
        connection.execute("REVOKE SELECT ON pg_stat_statements FROM PUBLIC")
    arguments = server.connect_arguments() | {"user": "guest", "password": "guest"}
    guest = AttachedServer(arguments=ConnectArguments(arguments), info=server.info)

    with (
        ServerEvidence(guest) as evidence,
        connect(guest.connect_arguments()) as connection,
    ):
        connection.execute("SELECT count(*) FROM things")
    found = evidence.details()

    assert found["database"]["xact_commit"] > 0
    assert found["missing"] == {
        "wal": "permission denied for view pg_stat_wal",
        "statements": "permission denied for view pg_stat_statements",
    }
    assert "wal" not in found
    assert "statements" not in found


def test_server_without_the_extension_says_so(server):
    with connect(server.connect_arguments()) as connection:
        connection.execute("DROP EXTENSION pg_stat_statements")
        with ServerEvidence(server) as evidence:
            pass
        connection.execute("CREATE EXTENSION pg_stat_statements")

    missing = evidence.details()["missing"]
    assert 'relation "pg_stat_statements" does not exist' in missing["statements"]


def test_server_that_dies_meanwhile_leaves_a_remark(start_own):
    own = start_own()

    with ServerEvidence(own) as evidence:
        own.close()
    found = evidence.details()

    assert set(found) == {"dt_s", "missing"}
    assert "after" in found["missing"]
