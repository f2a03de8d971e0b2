from __future__ import annotations

import pytest

from harness.errors import SparkError
from harness.spark.lab import Place, Run
from harness.spark.meter import Usage
from harness.spark.stream_record import measured

MB = 1_000_000


def run_that_held(tmp_path, *, jvm_mb):
    """A run without micro-batches: memory is looked at before them."""
    return Run(
        place=Place(None, tmp_path),
        batches={"q": []},
        wall_s=1.0,
        usage=Usage((0.0, 1.0), (0.0, 1.0), jvm_mb * MB, 300 * MB),
    )


def test_run_whose_jvm_held_too_much_is_not_recorded(tmp_path):
    said = "the JVM held 4001 MB, more than 4000 MB: .*DRIVER_MEMORY"

    with pytest.raises(SparkError, match=said):
        measured(run_that_held(tmp_path, jvm_mb=4001))


def test_run_whose_jvm_held_what_it_may_is_not_refused_for_it(tmp_path):
    with pytest.raises(SparkError, match="no micro-batch is left"):
        measured(run_that_held(tmp_path, jvm_mb=4000))
