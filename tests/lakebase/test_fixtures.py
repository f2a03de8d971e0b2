"""The pool fixtures, in a project of their own, run by a real pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CASES = """
import pytest
from harness.errors import ConfigError, TargetError
from harness.postgres.psycopg_pool import PsycopgPool

def test_default_comes_from_the_settings(pool):
    assert isinstance(pool, PsycopgPool)
    config = pool.config
    assert (config.size_min, config.size_max) == (3, 5)
    assert config.checkout_timeout_s == 7.5
    assert config.lifetime_max_s == 1234.0
    assert config.statement_timeout_s == 2.0
    assert config.application_name == "sizing"
    assert pool.stats().size == 3

def test_one_bound_is_enough(make_pool):
    assert make_pool(size_max=2).config.size_min == 2
    assert make_pool(size_min=9).config.size_max == 9

def test_kind_is_chosen_by_the_case(make_pool):
    pools = [make_pool(kind=kind, size_min=1) for kind in ("psycopg", "queue")]
    assert [pool.name for pool in pools] == ["psycopg", "queue"]

def test_unknown_kind_is_refused(make_pool):
    with pytest.raises(ConfigError, match="psycopg, queue, got 'odbc'"):
        make_pool(kind="odbc")

def test_prewarmed_pool_has_all_it_may_have(prewarmed_pool):
    assert prewarmed_pool.stats().idle == prewarmed_pool.config.size_max == 5

POOLS = []

@pytest.mark.parametrize("kind", ["psycopg", "queue"])
def test_leaks(make_pool, kind):
    POOLS.append(make_pool(kind=kind, size_min=2))
    POOLS[-1].checkout().__enter__()
    with POOLS[-1].checkout():
        pass

def test_pool_of_a_finished_test_is_closed():
    for pool in POOLS:
        with pytest.raises(TargetError, match="closed"), pool.checkout():
            pass

def test_threads(threads):
    assert threads in (2, 5)

def test_wrong_setting_is_a_message(make_pool):
    make_pool(size_min=4, size_max=3)

@pytest.mark.benchmark(group="mix")
def test_mix(threads, make_pool, seeded_table, measure_workload):
    from harness.postgres.workloads import ReadWriteMix
    assert seeded_table.name == "orders_smoke"
    pool = make_pool(kind="queue", size_min=2, size_max=2)
    measure_workload(ReadWriteMix(pool, seeded_table), threads=threads)

@pytest.mark.benchmark(group="fraud")
def test_fraud(make_pool, seeded_table, measure_workload):
    from harness.postgres.workloads import ReadWriteMix
    class RolledBack(ReadWriteMix):
        def write(self, connection, key, amount_cents):
            with connection.transaction(force_rollback=True):
                super().write(connection, key, amount_cents)
    measure_workload(RolledBack(make_pool(), seeded_table), threads=2)
"""


CASES += """
def test_anchored(postgres, pgbench_tables, measure_workload):
    from harness.postgres.workloads import AccountLookup, Held
    workload = AccountLookup(Held(server=postgres), pgbench_tables, direct=True)
    measure_workload(workload, threads=2, processes=2, beside="select-only")

def test_rows(postgres, measure_workload):
    from harness.postgres.connect import connect
    from harness.postgres.workloads import CopyRows, Held, make_ingest_table
    with connect(postgres.connect_arguments()) as connection:
        make_ingest_table(connection)
    workload = CopyRows(Held(server=postgres), rows=10)
    measure_workload(workload, threads=1, rows_per_operation=10)

class TestWithoutPgbench:
    @pytest.fixture
    def pgbench(self):
        return None

    def test_unanchored(self, postgres, pgbench_tables, measure_workload):
        from harness.postgres.workloads import AccountLookup, Held
        workload = AccountLookup(Held(server=postgres), pgbench_tables)
        measure_workload(workload, threads=1, beside="select-only")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The output of the project's run, and its report."""
    root = tmp_path_factory.mktemp("project")
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (root / "test_cases.py").write_text(CASES)
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG"}}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA"),
            *("--target=embedded", "--smoke", "--benchmark-json=report.json"),
        ],
        cwd=root,
        env=kept
        | {
            "DB_POOL_SIZE": "3",
            "DB_MAX_OVERFLOW": "2",
            "DB_POOL_TIMEOUT": "7.5",
            "DB_POOL_RECYCLE_INTERVAL": "1234",
            "DB_COMMAND_TIMEOUT": "2",
            "APPLICATION_NAME": "sizing",
            "BENCHMARK_THREAD_COUNTS": "2,5",
            "BENCHMARK_TABLE_NAME": "orders",
            "BENCHMARK_TABLE_ROWS": "1000",
            "BENCHMARK_TEST_DURATION_SECONDS": "0.2",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    report = root / "report.json"
    records = json.loads(report.read_text())["benchmarks"] if report.exists() else []
    return done.stdout + done.stderr, {record["name"]: record for record in records}


@pytest.mark.parametrize(
    "case",
    [
        "test_default_comes_from_the_settings",
        "test_one_bound_is_enough",
        "test_kind_is_chosen_by_the_case",
        "test_unknown_kind_is_refused",
        "test_prewarmed_pool_has_all_it_may_have",
        "test_pool_of_a_finished_test_is_closed",
        "test_threads[threads=002]",
        "test_threads[threads=005]",
        "test_mix[threads=002]",
        "test_anchored",
        "test_rows",
        "TestWithoutPgbench::test_unanchored",
    ],
)
def test_case_passes(run, case):
    output, _records = run
    assert f"PASSED test_cases.py::{case}\n" in output


@pytest.mark.parametrize("kind", ["psycopg", "queue"])
def test_leak_fails_the_test_and_names_the_line(run, kind):
    output, _records = run
    line = 1 + CASES.splitlines().index("    POOLS[-1].checkout().__enter__()")
    assert f"ERROR test_cases.py::test_leaks[{kind}]" in output
    assert "1 connections never came back" in output
    assert f"pool '{kind}': checked out at " in output
    assert f"test_cases.py:{line} in test_leaks" in output


def test_wrong_size_is_one_message(run):
    output, _records = run
    assert "ConfigError: size_max must be >= max(1, size_min=4), got 3" in output


def test_facts_say_which_pool_on_which_table(run):
    # With five threads this pool of two may starve some: then there is no record.
    _output, records = run
    facts = records["test_mix[threads=002]"]["extra_info"]["lakegauge"]["facts"]
    assert facts["pool_kind"] == "queue"
    assert (facts["pool_size_min"], facts["pool_size_max"]) == (2, 2)
    assert facts["table_rows"] == 1000
    assert facts["postgres_target"] == "embedded"


def test_work_that_was_not_done_is_no_result(run):
    output, records = run
    assert "WorkNotDoneError: the load reports" in output
    assert "updates committed: 0, expected" in output
    assert "test_fraud" not in records


def details_of(run, name):
    _output, records = run
    return records[name]["extra_info"]["lakegauge"]["details"]


def test_record_says_what_the_server_did(run):
    server = details_of(run, "test_anchored")["server"]

    assert server["dt_s"] >= 0.2
    assert server["database"]["xact_commit"] > 100
    assert server["server_cpu_s"] > 0
    assert any("abalance" in row["query"] for row in server["statements"])


def test_record_says_what_pgbench_reached_in_the_same_session(run):
    details = details_of(run, "test_anchored")

    assert details["client_stack_efficiency"] > 0
    assert len(details["pgbench"]["throughput_per_s"]) == 2
    assert details["pgbench"]["protocol"] == "prepared"
    assert details["pgbench"]["clients"] == 16


def test_record_says_that_there_is_no_pgbench(run):
    details = details_of(run, "test_unanchored")

    assert details["pgbench"].startswith("not installed: pip install")
    assert "client_stack_efficiency" not in details


def test_rows_per_second_are_those_of_all_operations(run):
    _output, records = run
    record = records["test_rows"]
    throughput = record["stats"]["throughput"]

    rows_per_s = details_of(run, "test_rows")["rows_per_s"]
    assert rows_per_s == pytest.approx(10 * throughput, rel=1e-3)
    assert "pgbench" not in details_of(run, "test_rows")
