"""What holds for every scenario here: its Python processes leave room for the rest."""

from __future__ import annotations

import os

import pytest

from harness.settings.fixtures import settings_of

# 600 MB on two cores: each runs tasks in a Python worker of its own. A scenario needs
# 500; in a session of all of them pytest itself grows, by what proofs have loaded.
PYTHON_MAX_BYTES = 550_000_000
PYTHON_MAX_BYTES_PER_CORE = 25_000_000


@pytest.fixture
def record_stream(record_stream, pytestconfig):
    """Record a run, as everywhere; refuse one whose Python side was too large."""
    # Executors of a local cluster have Python processes of their own, each of them.
    one_jvm = not settings_of(pytestconfig).spark.master.startswith("local-cluster")

    def record(run, **about):
        if run.usage is not None and one_jvm:
            most = PYTHON_MAX_BYTES + PYTHON_MAX_BYTES_PER_CORE * (os.cpu_count() or 1)
            held = run.usage.python_peak_bytes
            assert held <= most, (
                f"pytest and Spark's Python processes held {held / 1e6:.0f} MB, more "
                f"than {most / 1e6:.0f} MB"
            )
        record_stream(run, **about)

    return record
