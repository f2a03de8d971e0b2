"""No token in the command line or the environment of any process a run starts."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# While pytest-benchmark registers its options it asks git for the default of
# --benchmark-autosave, before any other plugin has a say.
NOT_OURS = "git "
CANARY = "canary"  # part of every secret of the control plane


def test_no_token_in_command_lines_and_environments_of_a_run(plane, postgres, tmp_path):
    """Every process a whole run starts is looked at, again and again, until its end.

    The run's own environment is ours to give, so its children's are looked at; the
    control is a child that does get the token, which must be seen.
    """
    arguments = postgres.connect_arguments()
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DATABRICKS", "LAKE", "PG", "PYTEST", "BENCHMARK"))
    }
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "benchmarks/test_pool_connect.py",
                "--target=lakebase",
                "--smoke",
                "--log-level=DEBUG",
                "-p",
                "no:cacheprovider",
                f"--benchmark-json={tmp_path / 'report.json'}",
            ],
            cwd=ROOT,
            env={
                **environment,
                "DATABRICKS_WORKSPACE_URL": plane.url,
                "DATABRICKS_TOKEN": plane.workspace_token,
                "LAKEBASE_ENDPOINT": plane.endpoint,
                "LAKEBASE_PORT": str(arguments["port"]),
                "LAKEBASE_DATABASE": plane.database,
                "LAKEGAUGE_LOG_FORMAT": "json",
                "LOG_LEVEL": "DEBUG",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        children, leaks = watch(run)
    text = (tmp_path / "output").read_text()
    assert run.returncode == 0, text
    assert plane.tokens
    assert children, "the run started processes, which were looked at"
    assert leaks == []
    assert CANARY not in text + (tmp_path / "report.json").read_text()


def test_watching_finds_a_token_that_leaks():
    """The control of the test above."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    run = subprocess.Popen(
        [sys.executable, "-c", child],
        env={**os.environ, "TOKEN": f"{CANARY}-x"},
        stdin=subprocess.PIPE,
    )
    with run:
        _children, leaks = watch(run, until_found=True)
        run.stdin.write(b"\n")
        run.stdin.close()
    assert leaks


def watch(run, *, until_found=False):
    """Return the descendants of a process seen until its end, and those that leak."""
    root = psutil.Process(run.pid)
    # Between fork and exec a child is still the parent: its name and its environment.
    own_line = " ".join(run.args)
    children, leaks = set(), []
    while run.poll() is None and not (until_found and leaks):
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error, OSError):
                line = " ".join(process.cmdline())
                told = "" if line == own_line else str(process.environ())
                if " ".join(process.cmdline()) != line or not line:
                    continue  # in the middle of its exec
                if process.pid != run.pid:
                    children.add(process.pid)
                if CANARY in line + told and not line.startswith(NOT_OURS):
                    leaks.append(line)
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=0.02)
    return children, leaks
