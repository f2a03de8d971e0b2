"""The verdict inside `pytest --benchmark-compare`, by a real pytest."""

from __future__ import annotations

import json

import pytest

from harness.load.surroundings import Surroundings
from harness.reports.environment import EnvironmentWatch, doubts_about_environment
from harness.reports.record import BLOCK, EnvironmentBlock

SERIES = """
import pytest

@pytest.mark.threshold(p50="20%", p99=0.5)
def test_s(record_durations):
    record_durations(
        [{p50}] * 400, measure="x", wall_s=1.0, failed={failed}
    )
"""


def test_more_failed_operations_fail_the_run_and_are_named(project):
    project.write(SERIES.format(p50=0.01, failed={}))
    project.run("benchmarks", "--benchmark-save=x")
    project.write(SERIES.format(p50=0.01, failed={"AgentError": 40}))
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert outcome.returncode == 1
    assert "REGRESSED: benchmarks/test_cases.py::test_s" in outcome.stdout
    assert "40 of 440 operations failed, before 0" in outcome.stdout
    assert "VERDICT (one run a side): 1 regressed" in outcome.stdout


def test_smoke_values_prove_that_a_case_runs_and_fail_nothing(project):
    project.write(SERIES.format(p50=0.01, failed={}))
    project.run("benchmarks", "--smoke", "--benchmark-save=x")
    project.write(SERIES.format(p50=0.01, failed={"AgentError": 40}))
    outcome = project.run("benchmarks", "--smoke", "--benchmark-compare")
    assert outcome.returncode == 0
    assert "VERDICT (one run a side): 1 regressed" in outcome.stdout


def test_a_change_that_one_run_cannot_prove_passes(project):
    project.write(SERIES.format(p50=0.01, failed={}))
    project.run("benchmarks", "--benchmark-save=x")
    project.write(SERIES.format(p50=0.02, failed={}))
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert outcome.returncode == 0
    assert "VERDICT (one run a side): 1 inconclusive" in outcome.stdout


def test_the_marker_is_kept_in_the_report_and_the_verdict_is_written(project):
    project.write(SERIES.format(p50=0.01, failed={}))
    project.run("benchmarks", "--benchmark-save=x")
    outcome = project.run(
        "benchmarks", "--benchmark-compare", "--verdict-output=v.json"
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    block = project.report()["benchmarks"][0]["extra_info"][BLOCK]
    assert block["thresholds"] == {"p50": 0.2, "p99": 0.5}
    case = json.loads((project.root / "v.json").read_text())["cases"][0]
    assert [m["threshold"] for m in case["metrics"]] == [0.2, 0.05, 0.5, 0.02, 0.0]


@pytest.mark.parametrize(
    ("marker", "named"),
    [
        ("threshold(p50=-1)", "must be from 0 to 10"),
        ("threshold(p42=0.1)", "'p42' is no metric"),
        ("threshold(0.1)", "name the metric"),
    ],
)
def test_a_misspelt_marker_is_a_usage_error_before_any_work(project, marker, named):
    case = "import pytest\n@pytest.mark.{}\ndef test_s(benchmark):\n    benchmark(int)"
    project.write(case.format(marker))
    outcome = project.run("benchmarks")
    assert outcome.returncode == 4
    assert named in outcome.stderr
    assert "test_cases.py::test_s" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--verdict-output=v.json"], "add --benchmark-compare"),
        (["--benchmark-compare", "--verdict-output=v.pdf"], ".json, .csv, .md, .xml"),
    ],
)
def test_an_output_that_cannot_be_is_a_usage_error(project, arguments, named):
    outcome = project.run("benchmarks", *arguments)
    assert outcome.returncode == 4
    assert named in outcome.stderr


def test_a_misspelt_setting_is_a_usage_error_before_any_work(project):
    outcome = project.run(
        "benchmarks", "--benchmark-compare", LAKEGAUGE_THRESHOLDS="p50"
    )
    assert outcome.returncode == 4
    assert "LAKEGAUGE_THRESHOLDS: 'p50' is no threshold" in outcome.stderr


def test_help_says_where_ours_is_stricter(project):
    words = " ".join(project.run("--help").stdout.split())
    assert "itself is stricter here than in pytest-benchmark alone" in words


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({"others": 0.9}, "other processes used 90%"),
        ({"stolen": 0.3}, "the host took 30%"),
        ({"throttled_s": 2.0}, "the CPU quota held the run back for 2.0 of 10.0 s"),
        ({"thermal_throttles": 3}, "slowed for heat 3 times"),
        ({"involuntary_switches_per_s": 5000.0}, "5,000 times per second"),
    ],
)
def test_each_sign_of_a_bad_environment_is_a_doubt(about, named):
    doubts = doubts_about_environment(EnvironmentBlock(**about), wall_s=10.0)
    assert len(doubts) == 1
    assert named in doubts[0]


def test_a_calm_environment_is_no_doubt():
    calm = EnvironmentBlock(others=0.3, stolen=0.01, throttled_s=0.1)
    assert doubts_about_environment(calm, wall_s=10.0) == []


def test_the_guard_sees_what_this_process_was_allowed():
    block = EnvironmentWatch().finish()
    assert block.affinity_count >= 1
    assert block.load_1min[0] >= 0
    assert block.involuntary_switches_per_s >= 0


def test_the_guard_leaves_out_what_others_did_while_it_was_paused(monkeypatch):
    """A run that takes turns waits while the other works: that disturbs nobody."""
    shares = iter([0.2, 0.2])
    monkeypatch.setattr(
        "harness.reports.environment.watch_surroundings",
        lambda _processes: lambda: Surroundings(others=next(shares), stolen=0.0),
    )
    watch = EnvironmentWatch()
    watch.pause()
    watch.pause()
    watch.resume()
    watch.resume()
    assert watch.finish().others == 0.2
    assert list(shares) == []
