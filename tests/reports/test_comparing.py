"""Compared is only what may be compared; whatever is left out is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def columns(outcome):
    """The words of each line of the result table."""
    return [line.split() for line in outcome.stdout.splitlines()]


def test_the_first_comparison_needs_no_baseline(project):
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert outcome.returncode == 0
    assert "baseline: none comparable in reports yet" in outcome.stdout
    assert "--benchmark-autosave" in outcome.stdout


def test_baseline_and_change_stand_beside_the_run(project):
    project.run("benchmarks", "--benchmark-save=x")
    outcome = project.run("benchmarks", "--benchmark-compare")
    rows = columns(outcome)
    assert "baseline: reports/" in outcome.stdout
    series = next(i for i, row in enumerate(rows) if row[:2] == ["series", "now"])
    assert rows[series][2:4] == ["400", "ms"]
    assert rows[series + 1][0] == "0001"
    assert rows[series + 2][:3] == ["change", "+0.0", "%"]


def test_it_works_from_a_subfolder(project):
    project.run("benchmarks", "--benchmark-save=x")
    outcome = project.run(".", "--benchmark-compare", folder="benchmarks")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "change" in outcome.stdout
    assert not (project.root / "benchmarks" / "reports").exists()


def test_cases_on_one_side_only_are_named(project):
    project.run("benchmarks", "--benchmark-save=x")
    project.write(
        "def test_micro(benchmark):\n    benchmark(lambda: 1)\n"
        "def test_added(benchmark):\n    benchmark(lambda: 1)\n"
    )
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert "NEW: benchmarks/test_cases.py::test_added" in outcome.stdout
    assert "MISSING: benchmarks/test_cases.py::test_series" in outcome.stdout
    assert "MISSING: benchmarks/test_cases.py::test_micro" not in outcome.stdout


def test_cases_that_were_not_asked_for_are_not_missing(project):
    project.write("def test_other(benchmark):\n    benchmark(lambda: 1)\n", "test_b.py")
    project.run("benchmarks", "--benchmark-save=x")
    one_file = project.run("benchmarks/test_b.py", "--benchmark-compare")
    by_name = project.run("benchmarks", "-k", "micro", "--benchmark-compare")
    assert "MISSING" not in one_file.stdout + by_name.stdout


FACTS = """
import pytest

@pytest.hookimpl(optionalhook=True)
def pytest_lakegauge_facts(item):
    return {{"postgres_target": {target!r}, "postgres_version": {version!r}}}
"""


@pytest.mark.parametrize(
    ("target", "version", "named"),
    [
        ("docker", "17.10", "postgres_target: saved 'embedded', now 'docker'"),
        ("embedded", "16.2", "postgres_version: saved '17.10', now '16.2'"),
    ],
)
def test_another_target_or_server_version_is_marked_not_compared(
    project, target, version, named
):
    conftest = project.root / "conftest.py"
    conftest.write_text(FACTS.format(target="embedded", version="17.10"))
    project.run("benchmarks", "--benchmark-save=x")
    conftest.write_text(FACTS.format(target=target, version=version))
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert named in outcome.stdout
    assert "not comparable" in outcome.stdout
    assert "change" not in outcome.stdout


def test_a_gate_does_not_pass_when_nothing_could_be_compared(project):
    conftest = project.root / "conftest.py"
    conftest.write_text(FACTS.format(target="embedded", version="17.10"))
    project.run("benchmarks", "--benchmark-save=x")
    conftest.write_text(FACTS.format(target="docker", version="17.10"))
    outcome = project.run(
        "benchmarks", "--benchmark-compare", "--benchmark-compare-fail=median:5%"
    )
    assert outcome.returncode == 1
    assert "GATE: --benchmark-compare-fail found no case" in outcome.stdout


def test_a_report_of_another_machine_class_is_refused_by_name_and_passed_over(project):
    project.run("benchmarks", "--benchmark-save=x")
    project.rewrite(
        project.reports[0], machine_info=lambda info: info.update(cpu_count=999)
    )
    named = project.run("benchmarks", "--benchmark-compare=0001")
    assert named.returncode == 4
    assert "reports are not comparable" in named.stderr
    assert "cpu_count: saved 999" in named.stderr
    newest = project.run("benchmarks", "--benchmark-compare")
    assert newest.returncode == 0
    assert "passed over: 0001_x.json is not comparable" in newest.stdout


def test_a_smoke_run_is_not_compared_with_a_full_one(project):
    project.run("benchmarks", "--benchmark-save=full")
    outcome = project.run("benchmarks", "--smoke", "--benchmark-compare=0001")
    assert outcome.returncode == 4
    assert "saved with full values, now smoke values" in outcome.stderr


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("{", "not JSON"),
        ("[]", "damaged: its top level"),
        ('{"benchmarks": [{"fullname": "a", "stats": {}}]}', "benchmarks.0.name"),
        ('{"benchmarks": [], "machine_info": {"x": NaN}}', "NaN"),
        ('{"benchmarks": [], "machine_info": {"x": 1e999}}', "1e999"),
        ("[" * 100_000, "nested too deeply"),
        (
            '{"benchmarks":[], "machine_info":{}, "lakegauge":{"schema_version":99}}',
            "schema version 99",
        ),
    ],
)
def test_a_damaged_report_is_a_clear_error_when_named(project, damage, named):
    project.run("benchmarks", "--benchmark-save=x")
    project.reports[0].write_text(damage)
    outcome = project.run("benchmarks", "--benchmark-compare=0001")
    assert outcome.returncode == 4
    assert named in outcome.stderr
    assert "Traceback" not in outcome.stderr + outcome.stdout


def test_a_damaged_newest_report_gives_way_to_the_one_before(project):
    project.run("benchmarks", "--benchmark-save=x")
    project.run("benchmarks", "--benchmark-save=y")
    project.reports[1].write_text(project.reports[1].read_text()[:1000])
    outcome = project.run("benchmarks", "--benchmark-compare")
    assert outcome.returncode == 0
    assert "0001_x.json" in outcome.stdout
    assert "0002_y.json is not JSON" in outcome.stdout.replace("\n", "")


def test_an_unknown_baseline_is_refused_before_any_work(project):
    outcome = project.run("benchmarks", "--benchmark-compare=0042")
    assert outcome.returncode == 4
    assert "no saved report matches '0042'" in outcome.stderr
    assert "collected" not in outcome.stdout


def test_a_gate_without_a_baseline_is_refused_before_any_work(project):
    outcome = project.run(
        "benchmarks", "--benchmark-compare", "--benchmark-compare-fail=median:5%"
    )
    assert outcome.returncode == 4
    assert "run once with --benchmark-autosave" in outcome.stderr


def test_a_regression_is_one_line_and_exit_code_1(project):
    series = (
        "def test_s(record_durations):\n"
        "    record_durations([{0}] * 10, measure='x', wall_s=1.0)\n"
    )
    project.write(series.format(0.010))
    project.run("benchmarks", "--benchmark-save=x")
    project.write(series.format(0.012))
    gate = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    outcome = project.run("benchmarks", *gate)
    assert outcome.returncode == 1
    assert "REGRESSED: benchmarks/test_cases.py::test_s" in outcome.stdout
    assert "+20.0 %" in outcome.stdout
    assert "Traceback" not in outcome.stdout + outcome.stderr
    project.write(series.format(0.0105))
    assert project.run("benchmarks", *gate).returncode == 0


def test_benchmarks_under_xdist_are_a_usage_error(project):
    outcome = project.run("benchmarks", "-n", "1", "--benchmark-save=x")
    assert outcome.returncode == 4
    assert "cannot run under pytest-xdist" in outcome.stderr
    assert project.reports == []
    allowed = project.run("benchmarks", "-n", "1", "--benchmark-disable")
    assert allowed.returncode == 0


def test_the_table_of_pytest_benchmark_is_there_when_asked_for(project):
    plain = project.run("benchmarks")
    assert "StdDev" not in plain.stdout
    asked = project.run("benchmarks", "--benchmark-columns=min,stddev")
    assert "StdDev" in asked.stdout


def compare_with(pytest_benchmark, project):
    return subprocess.run(
        [*pytest_benchmark, "--storage=file://reports", "compare", "--csv=out.csv"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_pytest_benchmark_compare_reads_what_we_write(project):
    project.run("benchmarks", "--benchmark-save=x")
    project.run("benchmarks", "--benchmark-save=y", "--benchmark-save-data")
    command = [str(Path(sys.executable).with_name("pytest-benchmark"))]
    outcome = compare_with(command, project)
    assert outcome.returncode == 0, outcome.stderr
    assert "test_load[threads=002] (0001_x)" in outcome.stdout
    assert "test_load[threads=002] (0002_y)" in outcome.stdout
    assert len((project.root / "out.csv").read_text().splitlines()) == 1 + 6


@pytest.fixture(scope="session")
def old_pytest_benchmark(tmp_path_factory):
    """pytest-benchmark 5.2.3 with a pytest of its time, in a folder of their own."""
    home = tmp_path_factory.mktemp("pytest-benchmark-5.2.3")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--target", home),
            *("pytest-benchmark==5.2.3", "pytest==8.4.2"),
        ],
        check=True,
    )
    return home


def test_pytest_benchmark_5_2_3_reads_what_we_write(project, old_pytest_benchmark):
    project.run("benchmarks", "--benchmark-save=x")
    old = os.environ | {"PYTHONPATH": str(old_pytest_benchmark)}
    version = subprocess.run(
        [sys.executable, "-c", "import pytest_benchmark as p; print(p.__version__)"],
        env=old,
        capture_output=True,
        text=True,
        check=True,
    )
    assert version.stdout.strip() == "5.2.3"
    outcome = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_benchmark"),
            *("--storage=file://reports", "compare"),
        ],
        cwd=project.root,
        env=old,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "test_load[threads=002]" in outcome.stdout


def test_the_plugin_runs_on_pytest_benchmark_5_2_3(project, old_pytest_benchmark):
    outcome = project.run(
        *("benchmarks", "--benchmark-save=x"), PYTHONPATH=str(old_pytest_benchmark)
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "benchmark: 5.2.3" in outcome.stdout
    _, load, series = project.report()["benchmarks"]
    assert load["stats"]["ops"] == load["stats"]["throughput"]
    assert series["stats"]["p50"] == 0.4
    assert json.loads(project.reports[0].read_text())["version"] == "5.2.3"
