"""The scenarios over Spark Connect: what a remote cluster will be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCENARIOS = (
    "scenarios/test_append.py::test_every_row_is_in_the_table_once",
    "scenarios/test_append.py::test_killed_stream_goes_on_without_loss_or_repetition",
    (
        "scenarios/test_upsert.py::"
        "test_parameters_of_a_sink_reach_its_micro_batches[factor=2]"
    ),
    (
        "scenarios/test_table_layout.py::"
        "test_pruning_by_partition_and_the_gap_in_open_source"
    ),
)


@pytest.mark.spark
def test_scenarios_run_over_a_connect_server_and_name_what_it_lacks():
    """In a process of its own: one process has a JVM or a server, not both."""
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--smoke",
            "-v",
            "-p",
            "no:cacheprovider",
            *SCENARIOS,
        ],
        check=False,
        cwd=ROOT,
        env=os.environ | {"LAKEGAUGE_SPARK_MASTER": "connect[2]"},
        capture_output=True,
        text=True,
    )

    said = answer.stdout
    assert answer.returncode == 0, said + answer.stderr
    assert "3 passed, 1 skipped" in said
    assert "Spark backend LocalConnect lacks plans" in said
