"""How long does it take to make the HTML page of a run of 200 cases, and how big is it?

The promises: under 3 s on two cores, baseline and verdicts included, and under 2 MB.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.clock import SYSTEM_CLOCK
from harness.reports.page.page import render_page
from harness.reports.record import BLOCK, Accounting
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
)
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.reading import read_report, run_of

TARGET_S, TARGET_MB = 3.0, 2.0
CASES = 200
MACHINE_INFO = {"system": "Linux", "cpu_brand": "a processor", "cpu_count": 2}


def _record(index, rng):
    values_s = 0.002 * np.exp(rng.normal(0, 0.5, 2_000))
    measurement = measurement_of_durations(
        values_s, measure="response_time", wall_s=10.0
    )
    block = case_block(measurement, facts={"target": "embedded", "rows": 1_000_000})
    quantiles = {"p50": 1.0, "p90": 2.0, "p95": 3.0, "p99": 4.0}
    loop = block.model_copy(
        update={
            "kind": "open_loop",
            "workers": 8,
            "schedule": "poisson at 200/s",
            "split_ms": dict.fromkeys(
                ("start_delay", "checkout_wait", "service_time"), quantiles
            ),
            "per_second": rng.integers(150, 250, 60).tolist(),
            "accounting": Accounting(
                scheduled=2000, completed=2000, failed=0, dropped=0, unfinished=0
            ),
        }
    )
    name = f"test_operation_{index // 4}[rate={2 ** (index % 4):03d}]"
    return {
        "group": f"group-{index // 4:02d}",
        "name": name,
        "fullname": f"benchmarks/test_{index // 4}.py::{name}",
        "extra_info": {BLOCK: loop.model_dump(mode="json", exclude_none=True)},
        "stats": exact_stats(values_s) | measured_stats(measurement),
    }


def _write(path, *, day, rng):
    run = {"schema_version": 2, "complete": True, "smoke": False}
    document = {
        "machine_info": MACHINE_INFO,
        "commit_info": {"id": "0" * 40},
        "datetime": f"2026-01-{day:02d}T02:00:00+00:00",
        "benchmarks": [_record(index, rng) for index in range(CASES)],
        BLOCK: run,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.mark.benchmark(group="report-page")
def test_page_of_two_hundred_cases(sized, record_durations, tmp_path):
    """Two saved reports read, compared and drawn, as `lakegauge report html` does."""
    rng = np.random.default_rng(1)
    old_path = _write(tmp_path / "0001_x.json", day=1, rng=rng)
    new_path = _write(tmp_path / "0002_x.json", day=2, rng=rng)
    durations_s, size_mb = [], 0.0
    started = SYSTEM_CLOCK.monotonic_ns()
    for _ in range(sized(full=8, smoke=2)):
        before = SYSTEM_CLOCK.monotonic_ns()
        old, new = read_report(old_path), read_report(new_path)
        comparison = compare_runs([run_of(old)], [run_of(new)])
        page = render_page(new, baseline=old, comparison=comparison)
        durations_s.append((SYSTEM_CLOCK.monotonic_ns() - before) / 1e9)
        size_mb = len(page.encode()) / 1e6
        assert page.count("<figure>") > CASES / 4
    assert size_mb < TARGET_MB
    record_durations(
        durations_s,
        measure="page_time",
        wall_s=(SYSTEM_CLOCK.monotonic_ns() - started) / 1e9,
        details={
            "cases_count": CASES,
            "size_mb": round(size_mb, 3),
            "slowest_s": round(max(durations_s), 3),
            "target_s": TARGET_S,
            "left_out": "charts were left out" in page,
            "holds": max(durations_s) < TARGET_S,
        },
    )
