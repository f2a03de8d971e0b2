"""The `postgres` fixture in real pytest runs: started once, early, or not at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

USES = """
def test_uses(postgres):
    print('port', postgres.connect_arguments()['port'])
"""
OTHER = "def test_other(): pass\n"


@pytest.fixture
def run_pytest(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n'
    )

    def run(*arguments, **environ):
        clean = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG"}}
        clean |= {"HOME": str(tmp_path), "DOCKER_HOST": "unix:///nowhere/docker.sock"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env=clean | environ,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_header_says_which_postgres_and_why(run_pytest, tmp_path):
    (tmp_path / "test_it.py").write_text(USES + USES.replace("uses", "again"))
    done = run_pytest("-s")
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"\npostgres: embedded \d+\.\d+, TLSv1\.\d \(no DSN or workspace configured, ",
        done.stdout,
    )
    assert len(set(re.findall(r"port (\d+)", done.stdout))) == 1


@pytest.mark.parametrize(
    "arguments", [["-k", "other"], ["--collect-only"]], ids=["unused", "collect-only"]
)
def test_server_that_nobody_needs_is_not_started(run_pytest, tmp_path, arguments):
    (tmp_path / "test_it.py").write_text(USES + OTHER)
    dsn = "postgresql://u@127.0.0.1:1/db"
    done = run_pytest(*arguments, LAKEGAUGE_POSTGRES_DSN=dsn)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "postgres:" not in done.stdout


def test_server_that_cannot_be_had_ends_the_run_before_any_test(run_pytest, tmp_path):
    (tmp_path / "test_it.py").write_text(OTHER + USES)
    dsn = "postgresql://u:canary@127.0.0.1:1/db"
    done = run_pytest(LAKEGAUGE_POSTGRES_DSN=dsn)
    output = done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert len(re.findall("ERROR: cannot connect to Postgres .*refused", output)) == 1
    assert "test_other" not in output
    assert "Traceback" not in output
    assert "canary" not in output


def test_each_worker_of_a_distributed_run_has_its_own(run_pytest, tmp_path):
    again = "".join(USES.replace("uses", f"uses_{i}") for i in range(4))
    (tmp_path / "test_it.py").write_text(again)
    done = run_pytest("-n2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_facts_tell_servers_apart(run_pytest, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_facts(postgres, request):\n"
        "    from harness.postgres.fixtures import pytest_lakegauge_facts\n"
        "    facts = pytest_lakegauge_facts(request.node)\n"
        "    assert facts['postgres_target'] == 'embedded'\n"
        "    assert facts['postgres_version'] == postgres.info.version\n"
        "    assert facts['postgres_tls'] == postgres.info.tls\n"
        "    assert facts['postgres_fsync'] == 'on'\n"
        "    assert facts['postgres_max_connections'] == 400\n"
        "def test_no_facts(request):\n"
        "    from harness.postgres.fixtures import pytest_lakegauge_facts\n"
        "    assert pytest_lakegauge_facts(request.node) is None\n"
    )
    done = run_pytest()
    assert done.returncode == 0, done.stdout + done.stderr
