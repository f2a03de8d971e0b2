"""What a record says of a measurement beside its quantiles."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.load import constant_arrivals, run_closed_loop, run_open_loop
from harness.reports.compare import CaseComparison
from harness.reports.summary import (
    case_block,
    measurement_of_durations,
    measurement_of_load,
    micro_block,
)
from harness.reports.table import render


def run(**changes):
    clock = ManualClock()
    random = np.random.default_rng(5)
    return run_open_loop(
        lambda _: clock.advance(random.exponential(0.001)),
        constant_arrivals(rate_per_s=200, duration_s=50),
        workers=1,
        clock=clock,
        **changes,
    )


def test_each_quantile_of_a_load_run_stands_within_its_interval():
    block = case_block(measurement_of_load(run(), measure="response_time"), facts={})
    assert set(block.intervals_ms) == {"p50", "p90", "p95", "p99", "p99_9"}
    values_ms = run().samples.response_time_ns / 1e6
    for key, (low, high) in block.intervals_ms.items():
        assert low < np.quantile(values_ms, float(key[1:].replace("_", ".")) / 100)
        assert np.quantile(values_ms, float(key[1:].replace("_", ".")) / 100) < high


def stalled_closed_loop():
    """1,000 operations of 1 ms, of which 20 in a row take 50 ms."""
    clock = ManualClock()
    times = iter([0.001] * 500 + [0.05] * 20 + [0.001] * 480)
    return run_closed_loop(
        lambda _: clock.advance(next(times)), workers=1, count=1000, clock=clock
    )


def test_a_closed_loop_stands_corrected_beside_what_it_measured():
    block = case_block(
        measurement_of_load(stalled_closed_loop(), measure="response_time"), facts={}
    )
    p95 = block.corrected_ms["p95"]
    assert p95["uncorrected"] == pytest.approx(1.0, rel=0.01)
    assert p95["corrected"] > 20
    opened = case_block(measurement_of_load(run(), measure="response_time"), facts={})
    assert opened.corrected_ms == {}

    record = {
        "name": "test_stalled",
        "fullname": "test_stalled",
        "group": None,
        "stats": {"rounds": 1000},
        "extra_info": {"lakegauge": block.model_dump(mode="json")},
    }
    comparison = CaseComparison(fullname="test_stalled", status="new", contender=record)
    shown = render([comparison], baseline_label=None, color=False)
    assert "corrected for coordinated omission (a guess" in " ".join(shown.split())


def test_a_run_kept_as_histograms_has_the_same_intervals():
    """Short queues: what the order of the samples adds is below a tenth."""
    raw = measurement_of_load(run(), measure="response_time").block["intervals_ms"]
    folded = measurement_of_load(run(raw_budget=100), measure="response_time")
    bounds = folded.block["intervals_ms"]
    assert set(bounds) == set(raw)
    assert bounds["p95"] == pytest.approx(raw["p95"], rel=0.1)


def test_durations_and_rounds_have_intervals_in_milliseconds():
    values_s = (np.arange(100) + 1) / 1000
    series = measurement_of_durations(values_s, measure="ttft", wall_s=1.0)
    assert case_block(series, facts={}).intervals_ms["p50"] == (40.0, 61.0)
    assert micro_block(values_s, facts={}).intervals_ms["p50"] == (40.0, 61.0)


def test_too_few_values_have_no_interval():
    assert micro_block([0.1, 0.2], facts={}).intervals_ms == {}
