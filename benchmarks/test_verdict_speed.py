"""How long does it take to compare 200 cases, and to load ten thousand reports?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.reports.history.index import measured_cases
from harness.reports.record import BLOCK
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
)

COMMAND = Path(sys.executable).with_name("lakegauge")
MACHINE_INFO = {"system": "Linux", "cpu_brand": "A processor", "cpu_count": 2}
COMPARE_MAX_S = 1.0
HISTORY_MAX_S = 5.0


def report(cases_count, night, rng):
    """A report as a run writes it, each value off by a few percent."""
    records = []
    for index in range(cases_count):
        durations_s = np.linspace(0.001, 0.003, 400) * np.exp(rng.normal(0, 0.03))
        measurement = measurement_of_durations(
            list(durations_s), measure="ttft", wall_s=2.0
        )
        block = case_block(measurement, facts={"postgres_version": "17.10"})
        records.append(
            {
                "group": "g",
                "name": f"test_{index:03d}",
                "fullname": f"benchmarks/test_x.py::test_{index:03d}",
                "extra_info": {BLOCK: block.model_dump(mode="json", exclude_none=True)},
                "stats": exact_stats(durations_s) | measured_stats(measurement),
            }
        )
    return {
        "machine_info": MACHINE_INFO,
        "commit_info": {"id": f"{night:07d}"},
        "datetime": (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(night)).isoformat(),
        "benchmarks": records,
        BLOCK: {"schema_version": 2, "complete": True, "smoke": False},
    }


def elapsed_s(function):
    began_ns = SYSTEM_CLOCK.monotonic_ns()
    function()
    return (SYSTEM_CLOCK.monotonic_ns() - began_ns) / NS_PER_S


@pytest.mark.benchmark(group="verdict-compare")
def test_compare_two_reports_of_200_cases(record_durations, sized, tmp_path):
    """The whole command in a process of its own, from start to exit code."""
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        text = json.dumps(report(200, ord(name), rng), indent=1)
        (tmp_path / f"{name}.json").write_text(text)

    def compare():
        subprocess.run(  # noqa: S603  # our own command
            [COMMAND, "compare", tmp_path / "a.json", tmp_path / "b.json"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )

    durations_s = [elapsed_s(compare) for _ in range(sized(full=10, smoke=3))]

    record_durations(durations_s, measure="command_time", wall_s=sum(durations_s))
    # Three on a busy machine prove nothing: a smoke run only shows that it runs.
    assert min(durations_s) < sized(full=COMPARE_MAX_S, smoke=60.0)


@pytest.mark.benchmark(group="verdict-history")
def test_load_10000_reports(record_durations, sized, tmp_path):
    """Three cases a report; the index is there, as after the first look."""
    count = sized(full=10_000, smoke=300)
    folder = tmp_path / "Linux-CPython-3.11-64bit"
    folder.mkdir()
    rng = np.random.default_rng(1)
    document = report(3, 0, rng)
    for night in range(count):
        document["datetime"] = report_time(night)
        for record in document["benchmarks"]:
            record["stats"]["p50"] = 0.002 * float(np.exp(rng.normal(0, 0.03)))
        path = folder / f"{night + 1:05d}_nightly.json"
        path.write_text(json.dumps(document, indent=1))

    cpu_before_s = cpu_s()
    first_s = elapsed_s(lambda: measured_cases(tmp_path))
    first_cpu_s = cpu_s() - cpu_before_s
    durations_s = [elapsed_s(lambda: measured_cases(tmp_path)) for _ in range(7)]

    assert len(measured_cases(tmp_path)[0]) == 3 * count
    record_durations(
        durations_s,
        measure="load_time",
        wall_s=sum(durations_s),
        details={
            "reports_count": count,
            "index_build_time_s": first_s,
            "index_build_cpu_s": first_cpu_s,
        },
    )
    # The first look counts too; what others do on the machine meanwhile does not.
    assert first_cpu_s < sized(full=HISTORY_MAX_S, smoke=60.0)
    assert min(durations_s) < sized(full=HISTORY_MAX_S, smoke=60.0)


def cpu_s():
    used = os.times()
    return used.user + used.system


def report_time(night):
    return (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(night)).isoformat()
