"""`/test/query` reads, whatever it is asked."""

from __future__ import annotations

import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.monitor.app import make_app
from harness.monitor.live_api import subject_of
from harness.postgres.connect import connect


def query(server, statement):
    quoted = urllib.parse.quote(statement)
    return server.json(f"/test/query?query={quoted}", method="POST")


def test_a_statement_that_reads_is_answered(server):
    status, answer = query(
        server, "SELECT g AS updated_at, NULL FROM generate_series(1, 500) g"
    )

    assert (status, answer["columns"]) == (200, ["updated_at", "?column?"])
    assert (answer["row_count"], answer["truncated"]) == (100, True)
    assert answer["rows"][0] == ["1", None]


ATTACKS = (
    "SELECT 1; DROP TABLE victim",
    "SELECT 1; SELECT 2",
    "; DELETE FROM victim",
    "SELECT 1 -- \n; DROP TABLE victim",
    "DROP TABLE victim",
    "TRUNCATE victim",
    "DELETE FROM victim",
    "INSERT INTO victim VALUES (2)",
    "UPDATE victim SET x = 2",
    "WITH d AS (DELETE FROM victim RETURNING 1) SELECT * FROM d",
    "CREATE TABLE more (x int)",
    "SELECT 1 INTO more",
    "COPY victim TO STDOUT",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'",
    "GRANT ALL ON victim TO public",
    "DO $$ BEGIN DELETE FROM victim; END $$",
    "CALL something()",
    "COMMIT",
    "COMMIT; DROP TABLE victim",
    "SET default_transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT SET_CONFIG('transaction_read_only', 'off', false)",
    "SELECT pg_catalog.\"set_config\"('transaction_read_only', 'off', false)",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
    "SELECT * FROM pg_read_file('/etc/passwd')",
    "SELECT (SELECT lo_import('/etc/passwd'))",
    "SELECT 1 ORDER BY pg_reload_conf()",
    "SELECT query_to_xml('DELETE FROM victim', true, true, '')",
    "SELECT writes()",
    "SELECT x FROM hidden",
    "SELECT * FROM victim FOR UPDATE",
    "EXPLAIN ANALYZE DELETE FROM victim",
    "SELECT pg_sleep(60)",
    "SELECT 1\x00",
    "'",
    "SELECT '",
)


@pytest.fixture
def victim(postgres):
    with connect(postgres.connect_arguments()) as connection:
        connection.execute(
            "DROP TABLE IF EXISTS victim CASCADE; CREATE TABLE victim (x int);"
            "INSERT INTO victim VALUES (1);"
            "CREATE OR REPLACE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM victim; RETURN 1; END $$;"
            "CREATE OR REPLACE VIEW hidden AS SELECT writes() AS x"
        )
        yield lambda: connection.execute("SELECT x FROM victim").fetchall()
        connection.execute("DROP TABLE victim CASCADE; DROP FUNCTION writes() CASCADE")


def test_no_attack_on_test_query_does_anything(run, service, victim, monkeypatch):
    monkeypatch.setattr("harness.monitor.live_api.TEST_TIMEOUT_S", 1.0)
    server = run(make_app(subject=subject_of(service, allow_query=True)))

    answers = {statement: query(server, statement) for statement in ATTACKS}

    # The NUL does not reach the statement as one: it is refused like the others.
    assert {
        statement for statement, (status, _) in answers.items() if status != 400
    } <= set()
    assert victim() == [(1,)]
    assert service.health.check_now().status == "healthy"


def test_test_query_leaves_no_connection_behind(server, postgres, eventually):
    query(server, "SELECT 1")
    query(server, "SELECT no_such_column")

    with connect(postgres.connect_arguments()) as connection:
        eventually(
            lambda: (
                connection.execute(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = 'lakegauge_test_query'"
                ).fetchone()
                == (0,)
            ),
            what="its connections are closed",
        )


def test_only_a_few_tests_run_at_once(run, service):
    server = run(make_app(subject=subject_of(service, allow_query=True)))
    with ThreadPoolExecutor(6) as threads:
        found = list(
            threads.map(lambda _: query(server, "SELECT pg_sleep(0.5)")[0], range(6))
        )

    assert set(found) == {200, 429}
