"""A small project with benchmarks, run by a real pytest in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CASES = """
import time
import pytest
from harness.load import run_closed_loop

@pytest.mark.benchmark(group="micro", min_rounds=400)
def test_micro(benchmark):
    benchmark(lambda: sum(range(100)))

@pytest.mark.benchmark(group="load")
@pytest.mark.parametrize("threads", [2], ids="threads={:03d}".format)
def test_load(record_load, threads):
    def operation(context):
        context.acquired()
        time.sleep(0.0005)
    record_load(run_closed_loop(operation, workers=threads, count=400))

@pytest.mark.benchmark(group="series")
def test_series(record_durations):
    record_durations(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        measure="ttft",
        wall_s=2.0,
        failed={"AgentError": 1},
        details={"tokens_per_s": 50.0},
    )
"""


# Under pytest-xdist the tests' own process says so in its environment, and
# pytest-benchmark would take the run inside for a worker.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}


class Project:
    """A folder with benchmarks and the means to run pytest in it."""

    def __init__(self, root):
        self.root = root
        (root / "benchmarks").mkdir()
        (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
        self.write(CASES)

    def write(self, text, name="test_cases.py"):
        (self.root / "benchmarks" / name).write_text(text)

    def command(self, *arguments):
        return [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("--benchmark-max-time=0.02", *arguments),
        ]

    def run(self, *arguments, folder=".", **environment):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root / folder,
            capture_output=True,
            text=True,
            timeout=120,
            env=ENVIRONMENT | environment,
            check=False,
        )

    def popen(self, *arguments):
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def reports(self):
        saved = (self.root / "reports").glob("*/*.json")
        return sorted(path for path in saved if path.parent.name != "unfinished")

    @property
    def unfinished(self):
        return sorted((self.root / "reports" / "unfinished").glob("*.json"))

    def report(self, index=-1):
        return json.loads(self.reports[index].read_text())

    def rewrite(self, path, **changes):
        data = json.loads(path.read_text())
        for key, change in changes.items():
            change(data[key])
        path.write_text(json.dumps(data))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)
