"""Figures that are none make a case incomparable: no crash, and never a verdict."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("lakegauge")
RUN = Path(__file__).parents[1] / "page" / "data" / "stream_run.json"


@pytest.fixture
def compare(tmp_path):
    """Return a function that compares a report with a copy in which a case is odd."""
    good = json.loads(RUN.read_text())

    def run(change):
        odd = copy.deepcopy(good)
        odd["datetime"] = "2026-11-26T00:00:00+00:00"
        change(odd["benchmarks"][0])
        for name, document in (("good", good), ("odd", odd)):
            (tmp_path / f"{name}.json").write_text(json.dumps(document))
        environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}
        return subprocess.run(
            [COMMAND, "compare", "good.json", "odd.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("throughput", "0.1", "throughput is '0.1', not a number"),
        ("throughput", 1e308, "throughput is 1e+308, which no clock"),
        ("throughput", 5e-324, "which no clock and no counter gives"),
        ("throughput", 0, "throughput is 0, not above 0"),
        ("errors", "5", "errors is '5', not a number"),
    ],
)
def test_a_figure_that_is_none_is_named_and_not_judged(compare, key, value, said):
    done = compare(lambda record: record["stats"].update({key: value}))
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "VERDICT: 1 not comparable, 1 inconclusive" in done.stdout


def test_a_threshold_that_is_none_is_named_and_not_used(compare):
    def change(record):
        record["extra_info"]["lakegauge"]["thresholds"] = {"p50": -5}

    done = compare(change)
    assert done.returncode == 0, done.stderr
    assert "threshold p50 is -5, not from 0 to 10" in done.stdout
    assert "VERDICT: 1 not comparable, 1 inconclusive" in done.stdout


def test_a_report_that_does_not_count_errors_is_compared_all_the_same(compare):
    done = compare(lambda record: record["stats"].update(errors=None))
    assert done.returncode == 0, done.stderr
    assert "VERDICT: 2 inconclusive" in done.stdout
