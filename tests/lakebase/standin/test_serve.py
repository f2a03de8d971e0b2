"""`lakegauge standin serve` and the fixtures, as a user meets them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from harness.clock import SYSTEM_CLOCK

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from harness.cli import app; app()"]


def clean_environment():
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DATABRICKS", "LAKE", "PG", "PYTEST", "BENCHMARK"))
    }


@pytest.fixture
def serve():
    """Start the command; return its process and what it says to export."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*COMMAND, "standin", "serve", *arguments],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        exported = {}
        for line in process.stdout:
            if not line.startswith("export "):
                assert line.startswith("# stand-in of projects/"), process.communicate()
                return process, exported
            name, _, value = shlex.split(line)[1].partition("=")
            exported[name] = value
        pytest.fail(f"it did not start: {process.communicate()[1]}")

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=60)


def test_what_it_exports_is_all_a_run_needs(serve, tmp_path):
    """`--target=lakebase`, as typed by somebody without a workspace."""
    _, exported = serve("--time-scale", "600")

    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("benchmarks/test_pool_connect.py", "--smoke", "--target=lakebase"),
            f"--benchmark-json={tmp_path / 'report.json'}",
        ],
        cwd=ROOT,
        env={**clean_environment(), **exported},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    output = run.stdout + run.stderr
    assert run.returncode == 0, output
    assert "postgres: lakebase 17" in output
    (record,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    facts = record["extra_info"]["lakegauge"]["facts"]
    assert facts["postgres_max_connections"] == 209
    assert facts["standin"] is True, "nobody must take it for Lakebase"
    assert "canary" not in output + (tmp_path / "report.json").read_text()


def test_signal_ends_all_of_it(serve):
    process, _ = serve("--no-tls")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=60) == 0
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_signal_while_it_starts_ends_all_of_it():
    process = subprocess.Popen(
        [*COMMAND, "standin", "serve"],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (family := psutil.Process(process.pid).children(recursive=True)):
            assert process.poll() is None

        process.send_signal(signal.SIGTERM)

        said, complaint = process.communicate(timeout=60)
        assert (process.returncode, said, complaint) == (0, "", "")
        assert not psutil.wait_procs(family, timeout=10)[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{half", "is no JSON"),
        ('{"at_s": 1}', "must hold a list"),
        ('[{"latency_s": 1}]', "needs at_s"),
        ('[{"at_s": 1, "do": "explode"}]', "suspend, fail_over, resize"),
    ],
)
def test_wrong_timetable_is_a_message_before_anything_starts(tmp_path, content, said):
    file = tmp_path / "faults.json"
    file.write_text(content)

    run = subprocess.run(
        [*COMMAND, "standin", "serve", "--timetable", str(file)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_flaky_standin_has_faults_and_serves_in_spite_of_them(
    flaky_lakebase_standin, mint
):
    standin = flaky_lakebase_standin
    arguments = standin.connect_arguments(mint(standin), connect_timeout=5)
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(30e9)
    answered = 0
    while standin.proxy.ledger()["counts"].get("fault", 0) < 3 or not answered:
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns
        try:
            with psycopg.connect(**arguments) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            continue
        answered += 1

    assert standin.port != standin.direct_port
    assert [e for e in standin.proxy.ledger()["entries"] if e["fault"] != "healthy"]
