"""What is saved is whole, exact, plain JSON, and never a failed case."""

from __future__ import annotations

import json
import signal

import pytest

from harness.load import LogLinearHistogram
from harness.reports.record import BLOCK


def test_saved_records_hold_the_measured_values_and_our_block(project):
    outcome = project.run("benchmarks", "--benchmark-save=one")
    assert outcome.returncode == 0, outcome.stdout
    assert [path.name for path in project.reports] == ["0001_one.json"]
    assert project.unfinished == []

    report = project.report()
    environment = report[BLOCK].pop("environment")
    assert environment["affinity_count"] >= 1
    assert 0 <= environment["others"] <= 1
    assert report[BLOCK] == {
        "schema_version": 2,
        "complete": True,
        "smoke": False,
        "failed": {},
    }
    micro, load, series = report["benchmarks"]

    assert series["stats"]["median"] == series["stats"]["p50"] == 0.4
    assert series["stats"]["min"] == 0.1
    assert series["stats"]["throughput"] == series["stats"]["ops"] == 3.5
    assert series["stats"]["errors"] == 1
    assert "p95" not in series["stats"]  # 7 values cannot support it
    assert series["extra_info"][BLOCK]["details"] == {"tokens_per_s": 50.0}
    assert series["extra_info"][BLOCK]["errors"] == {"AgentError": 1}

    block = load["extra_info"][BLOCK]
    assert block["accounting"]["scheduled"] == block["accounting"]["completed"] == 400
    assert load["stats"]["rounds"] == block["values_count"] == 400
    assert load["stats"]["p99"] >= load["stats"]["p50"] >= 0.0005
    # Two workers, so throughput is about twice 1/mean: never 1/mean itself.
    assert load["stats"]["throughput"] > 1.5 / load["stats"]["mean"]
    assert load["stats"]["ops"] == load["stats"]["throughput"]
    histogram = LogLinearHistogram.from_json(block["histogram"])
    assert len(histogram) == 400
    assert histogram.quantile(0.5) / 1e9 == pytest.approx(
        load["stats"]["p50"], rel=0.01
    )

    assert micro["extra_info"][BLOCK]["kind"] == "micro"
    assert micro["stats"]["p99"] > 0


def test_a_failed_case_is_never_saved_and_its_absence_is_stated(project):
    project.write(
        "def test_good(benchmark):\n    benchmark(lambda: 1)\n"
        "def test_bad(benchmark):\n    benchmark(lambda: 1)\n    assert 1 == 2\n"
        "def test_worse(record_load):\n    raise RuntimeError\n"
    )
    outcome = project.run("benchmarks", "--benchmark-save=x")
    assert outcome.returncode == 1
    names = [record["name"] for record in project.report()["benchmarks"]]
    assert names == ["test_good"]
    assert project.report()[BLOCK]["failed"] == {
        "benchmarks/test_cases.py::test_bad": "failed in call",
        "benchmarks/test_cases.py::test_worse": "failed in call",
    }
    assert "FAILED, not recorded: benchmarks/test_cases.py::test_bad" in outcome.stdout


def test_a_case_that_measured_nothing_is_named(project):
    project.write("def test_forgot(record_load):\n    pass\n")
    outcome = project.run("benchmarks")
    assert "test_forgot (passed, but measured nothing)" in outcome.stdout


def test_a_case_that_fails_at_teardown_is_not_saved(project):
    project.write(
        "import pytest\n"
        "@pytest.fixture\n"
        "def leaky():\n    yield\n    raise AssertionError('leaked')\n"
        "def test_leak(leaky, benchmark):\n    benchmark(lambda: 1)\n"
    )
    outcome = project.run("benchmarks", "--benchmark-save=x")
    assert outcome.returncode == 1
    assert project.reports == []
    assert "nothing saved: no benchmark passed" in outcome.stdout


def test_a_killed_run_leaves_a_readable_report_of_the_finished_cases(project):
    project.write(
        "import sys, time\n"
        "def test_a(benchmark):\n    benchmark(lambda: 1)\n"
        "def test_b(benchmark):\n    benchmark(lambda: 2)\n"
        "def test_c(benchmark):\n"
        "    sys.__stdout__.write('now\\n')\n"
        "    sys.__stdout__.flush()\n"
        "    time.sleep(60)\n"
    )
    process = project.popen("benchmarks", "--benchmark-autosave", "-s")
    for line in process.stdout:
        if line.rstrip().endswith("now"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    process.stdout.close()

    assert project.reports == []
    [path] = project.unfinished
    left = json.loads(path.read_text())
    assert [record["name"] for record in left["benchmarks"]] == ["test_a", "test_b"]
    assert left[BLOCK]["complete"] is False

    # The next run says so, and does not take it for a baseline.
    project.write("def test_a(benchmark):\n    benchmark(lambda: 1)\n")
    again = project.run("benchmarks", "--benchmark-compare")
    assert "unfinished: 1 killed run(s)" in again.stdout
    assert "baseline: none comparable" in again.stdout


def test_an_interrupted_run_is_kept_but_is_no_baseline(project):
    project.write(
        "def test_a(benchmark):\n    benchmark(lambda: 1)\n"
        "def test_b():\n    raise KeyboardInterrupt\n"
    )
    outcome = project.run("benchmarks", "--benchmark-save=x")
    assert outcome.returncode == 2
    assert project.reports == []
    assert len(project.unfinished) == 1
    assert "interrupted: what was measured is in" in outcome.stdout


def test_raw_data_is_kept_within_the_budget_only(project):
    project.write(
        "def test_few(record_durations):\n"
        "    values = [i / 1e6 for i in range(1, 101)]\n"
        "    record_durations(values, measure='x', wall_s=1.0)\n"
        "def test_many(record_durations):\n"
        "    values = [i / 1e6 for i in range(1, 50_001)]\n"
        "    record_durations(values, measure='x', wall_s=1.0)\n"
    )
    project.run("benchmarks", "--benchmark-json=out/dump.json")
    few, many = json.loads((project.root / "out/dump.json").read_text())["benchmarks"]
    assert few["stats"]["data"] == [i / 1e6 for i in range(1, 101)]
    assert "data" not in many["stats"]
    # Replayed in part, but every figure is of all 50,000 values.
    assert many["stats"]["rounds"] == 50_000
    assert many["stats"]["max"] == 0.05
    assert many["stats"]["min"] == 1e-6
    assert many["stats"]["mean"] == pytest.approx(0.0250005)
    assert many["stats"]["p99_9"] == pytest.approx(0.04995, rel=1e-3)
    assert many["stats"]["throughput"] == 50_000.0


def test_a_report_is_strict_json_without_bulky_parameters(project):
    project.write(
        "import numpy as np, pytest\n"
        "@pytest.mark.parametrize('rows', [list(range(50_000))], ids=['rows=50k'])\n"
        "def test_bulky(benchmark, rows):\n"
        "    benchmark.extra_info['scalar'] = np.int64(3)\n"
        "    benchmark(lambda: 1)\n"
    )
    project.run("benchmarks", "--benchmark-save=x")
    text = project.reports[0].read_text()

    def refuse(name):
        pytest.fail(f"{name} in a report")

    record = json.loads(text, parse_constant=refuse)["benchmarks"][0]
    assert record["extra_info"]["scalar"] == 3
    assert len(text) < 20_000


def test_no_space_for_the_report_is_one_clear_error(project):
    # A folder where a file must go fails like a full disk, at the same call.
    (project.root / "reports").write_text("in the way")
    outcome = project.run("benchmarks", "--benchmark-save=x")
    assert outcome.returncode != 0
    assert "cannot be written" in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stdout + outcome.stderr
    assert "INTERNALERROR" not in outcome.stdout + outcome.stderr


def test_numbers_go_on_after_9999(project):
    project.run("benchmarks", "--benchmark-save=x")
    [first] = project.reports
    first.rename(first.with_name("9999_x.json"))
    project.run("benchmarks", "--benchmark-save=y")
    project.run("benchmarks", "--benchmark-save=z")
    assert {path.name for path in project.reports} == {
        "9999_x.json",
        "10000_y.json",
        "10001_z.json",
    }
    compared = project.run("benchmarks", "--benchmark-compare")
    assert "10001_z.json" in compared.stdout


def test_disabled_benchmarks_run_once_and_save_nothing(project):
    outcome = project.run("benchmarks", "--benchmark-disable", "--benchmark-save=x")
    assert outcome.returncode == 0
    assert "3 passed" in outcome.stdout
    assert project.reports == project.unfinished == []
