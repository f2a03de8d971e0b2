"""Scenarios whose executors are processes of their own: one step to a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "scenarios/test_append.py::test_every_row_is_in_the_table_once",
    "scenarios/test_kill_nine.py",
)


@pytest.mark.spark
def test_scenarios_run_on_executors_of_their_own_and_name_what_is_missing():
    """The generator and its rows hold where tasks are in other processes."""
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--smoke", "-v"),
            *("-p", "no:cacheprovider", *SCENARIOS),
        ],
        check=False,
        cwd=ROOT,
        env=os.environ
        | {
            "LAKEGAUGE_SPARK_MASTER": "local-cluster[2,1,1024]",
            "LAKEGAUGE_SPARK_DRIVER_MEMORY": "1g",
        },
        capture_output=True,
        text=True,
    )

    said = answer.stdout
    assert answer.returncode == 0, said + answer.stderr
    assert "1 passed, 1 skipped" in said
    assert "Spark backend LocalCluster lacks kills" in said
