"""A comparison of one case: its metrics together must not cry wolf."""

from __future__ import annotations

import numpy as np
import pytest

from harness.reports.record import PairBlock, RunBlock
from harness.reports.verdict import families
from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.metrics import CaseRun
from harness.reports.verdict.model import RunSummary
from harness.reports.verdict.reading import Run

# A service on a machine with much else to do: two runs differ by half.
NOISE = 0.4
COMPARISONS = 500
# The metrics of a run rise and fall together, the tail more than the middle.
SHARED = 0.6
METRICS = {"p50": 1.0, "p95": 1.3, "p99": 2.0, "throughput": -1.0}


def side(rng, name, *, slower=1.0):
    runs = []
    for index in range(12):
        common = rng.normal()
        values = {}
        for metric, factor in METRICS.items():
            own = SHARED * common + np.sqrt(1 - SHARED**2) * rng.normal()
            change = 1 / slower if metric == "throughput" else slower
            values[metric] = float(np.exp(NOISE * factor * own)) * change
        case = CaseRun(
            fullname="c",
            name="c",
            group="g",
            kind="closed_loop",
            measure="x",
            values=values,
            operations=100,
        )
        pair = PairBlock(
            experiment="e", index=index, side=name, first=name == "A", variant=""
        )
        runs.append(
            Run(
                about=RunSummary(label=f"{index}", path=None, started_at=None),
                machine_info={},
                block=RunBlock(complete=True, smoke=False, pair=pair),
                cases={"c": case},
                digest=f"{name}{index}{rng.random()}",
            )
        )
    return runs


def alarms(slower=1.0):
    rng = np.random.default_rng(11)
    found = [
        compare_runs(side(rng, "A"), side(rng, "B", slower=slower))
        for _ in range(COMPARISONS)
    ]
    return sum(bool(c.with_status("regressed")) for c in found) / COMPARISONS


def test_a_lone_noisy_case_cries_wolf_about_once_in_a_hundred_comparisons():
    assert alarms() <= 0.015


def test_a_lone_noisy_case_that_takes_three_times_as_long_is_still_found():
    assert alarms(slower=3.0) >= 0.9


def test_the_usual_level_alone_would_cry_wolf_often(monkeypatch):
    """The control: each metric has a go of its own at a false alarm."""
    monkeypatch.setattr(families, "CASES_MIN", 1)
    assert alarms() >= 0.03


@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_tests_are_adjusted_as_if_there_were_six(count):
    from harness.reports.statistics.multiplicity import holm

    p_values = [0.001 * (i + 1) for i in range(count)]
    padded = [*p_values, *[1.0] * (6 - count)]
    assert holm(p_values, tests_min=6) == holm(padded)[:count]
