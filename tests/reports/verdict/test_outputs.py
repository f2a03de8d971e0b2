"""The command with several runs a side, its exit codes and its files."""

from __future__ import annotations

import csv
import json
from xml.etree import ElementTree as ET

import pytest

A, B, C = "test_read", "test_write", "test_scan"


@pytest.fixture
def slower(make_side):
    """Eight runs a side; `test_write` is 20 % slower in the contender's."""
    old, new = make_side("old", seed=1), make_side("new", seed=2)
    new.now = new.now.replace(minute=2)
    for _ in range(8):
        old.noisy([A, B])
        new.noisy([A, B], planted={B: {"*": 1.2}})
    return old.folder, new.folder


def test_the_table_shows_change_interval_threshold_and_verdict(compare, slower):
    done = compare(slower[0], "--", slower[1])
    assert done.returncode == 1, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("write"))
    assert row.split()[-1] == "regressed"
    assert "2 %" in row
    assert " .. +" in row
    assert "VERDICT: 1 regressed" in done.stdout
    assert "8 runs a side; one value per run" in done.stdout
    assert "REGRESSED: benchmarks/test_x.py::test_write" in done.stdout


def test_every_file_says_the_same(compare, slower, tmp_path):
    files = {form: tmp_path / f"v.{form}" for form in ("json", "csv", "md", "xml")}
    done = compare(slower[0], "--", slower[1], *(f"-o{f}" for f in files.values()))
    assert done.returncode == 1
    document = json.loads(files["json"].read_text())
    assert document["exit_code"] == 1
    case = document["cases"][0]
    assert (case["name"], case["status"]) == (B, "regressed")
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    row = next(r for r in rows if (r["case"], r["metric"]) == (case["fullname"], "min"))
    assert row["status"] == "regressed"
    assert float(row["ratio"]) == pytest.approx(case["metrics"][0]["ratio"])
    suite = ET.parse(files["xml"]).getroot()
    failed = [t.get("name") for t in suite if t.find("failure") is not None]
    assert failed == [B]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "### Verdict: 1 regressed" in files["md"].read_text()
    assert "| **regressed** | benchmarks/test" in files["md"].read_text()


def test_a_setting_changes_what_matters(compare, slower):
    done = compare(
        slower[0],
        "--",
        slower[1],
        LAKEGAUGE_THRESHOLDS="min=50%, p50=50%, test_write:p99=0.5",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 %" in done.stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("p50", "'p50' is no threshold"),
        ("p42=2%", "one of min, p50"),
        ("p50=-1%", "must be from 0 to 10"),
        ("p50=lots", "must be from 0 to 10"),
    ],
)
def test_a_misspelt_threshold_is_an_error_before_any_work(compare, slower, text, named):
    done = compare(slower[0], "--", slower[1], LAKEGAUGE_THRESHOLDS=text)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "LAKEGAUGE_THRESHOLDS" in done.stderr
    assert named in done.stderr


def test_ranges_and_numbers_name_runs(compare, make_side):
    side = make_side("Linux-CPython-3.11-64bit", seed=4)
    for _ in range(6):
        side.noisy([A])
    done = compare("0001..0003", "--", "4", "5", "6")
    assert done.returncode == 0, done.stderr
    assert "baseline: 3 runs: 0001, 0002, 0003" in done.stdout
    assert "contender: 3 runs: 0004, 0005, 0006" in done.stdout


def test_sides_must_be_told_apart(compare, slower):
    done = compare(*slower, slower[0])
    assert done.returncode == 2
    assert "BASELINE... -- CONTENDER..." in done.stderr


def test_an_output_of_unknown_form_is_refused_before_any_work(compare, slower):
    done = compare(slower[0], "--", slower[1], "--output=v.pdf")
    assert done.returncode == 2
    assert done.stdout == ""
    assert ".json, .csv, .md, .xml" in done.stderr


def test_another_machine_is_refused_whichever_run_it_hides_in(compare, make_side):
    old, new = make_side("old"), make_side("new")
    for _ in range(3):
        old.noisy([A])
        new.noisy([A])
    new.noisy([A], machine={"cpu_count": 64})
    done = compare(old.folder, "--", new.folder)
    assert done.returncode == 2
    assert "cpu_count: 2 against 64" in done.stderr
