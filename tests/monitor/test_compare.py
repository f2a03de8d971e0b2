"""`lakegauge compare` with one run a side, as a real process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.monitor.folder import find_run
from harness.reports.table import render

COMMAND = Path(sys.executable).with_name("lakegauge")


@pytest.fixture
def compare(tmp_path):
    """Return a function that runs the command in the folder above the reports."""

    def run(*arguments, folder="."):
        return subprocess.run(
            [COMMAND, "compare", *arguments],
            cwd=tmp_path / folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_two_reports_give_the_table_of_the_plugin(compare, reports):
    old = reports.save(
        *(reports.record(f"test_{name}") for name in ("both", "gone", "broken"))
    )
    new = reports.save(
        reports.record("test_both", scale=1.1),
        reports.record("test_added"),
        failed=["benchmarks/test_x.py::test_broken"],
    )
    done = compare("1", "2")
    assert (done.returncode, done.stderr) == (1, "")
    baseline, contender = find_run(str(old), old), find_run(str(new), new)
    both = [c for c in contender.compared_with(baseline) if c.status == "compared"]
    table = render(both, baseline_label="0001", color=False)
    assert table.rstrip() in done.stdout
    assert "+10.0 %" in done.stdout
    for line in (
        "MISSING: benchmarks/test_x.py::test_gone",
        "NEW: benchmarks/test_x.py::test_added",
        "FAILED: benchmarks/test_x.py::test_broken (failed in call)",
        "One run a side",
        f"baseline: 1 run: {old}, 2026-01-01 01:00 UTC",
        f"contender: 1 run: {new}, 2026-01-01 02:00 UTC",
    ):
        assert line in done.stdout


def test_reports_are_named_by_number_name_or_path(compare, reports, tmp_path):
    old = reports.save(reports.record(), name="before")
    reports.save(reports.record(), name="after")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "deeper").mkdir()
    outputs = {
        compare("1", "2").stdout,
        compare("0001", "0002_after").stdout,
        compare(str(old), "2").stdout,
        compare("1", "2", folder="deeper").stdout,
        compare("1", "2", f"--reports={reports.folder}", folder="deeper").stdout,
    }
    assert len(outputs) == 1
    assert "baseline: " in outputs.pop()


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"cpu_count": 64}, "cpu_count: 2 against 64"),
        ({"smoke": True}, "full values against smoke values"),
    ],
)
def test_reports_that_must_not_be_compared_are_refused(compare, reports, about, reason):
    reports.save(reports.record())
    reports.save(reports.record(), **about)
    done = compare("1", "2")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("lakegauge: reports are not comparable: ")
    assert reason in done.stderr


def test_cases_with_other_facts_are_not_compared_and_that_is_no_success(
    compare, reports
):
    reports.save(reports.record(facts={"postgres_version": "16.1"}))
    reports.save(reports.record(facts={"postgres_version": "17.2"}))
    done = compare("1", "2")
    assert done.returncode == 2
    assert "NOT COMPARABLE: " in done.stdout
    assert "postgres_version: '16.1' against '17.2' in 0002" in done.stdout
    assert "nothing compared" in done.stderr


def test_a_run_that_was_cut_short_is_marked(compare, reports):
    reports.save(reports.record())
    journal = reports.journal(reports.record())
    done = compare("1", str(journal.path))
    assert done.returncode == 0
    assert "A run of the contender was cut short" in done.stdout


def test_a_number_of_two_machines_must_be_told_apart(compare, reports):
    reports.save(reports.record())
    reports.save(reports.record(), machine_id="Other")
    done = compare("1", "1")
    assert done.returncode == 2
    assert "more than one report matches '1'" in done.stderr
    assert "Other/0001_x.json" in done.stderr


@pytest.mark.parametrize("wanted", ["7", "typo", "x" * 5000, "typo.json"])
def test_an_absent_report_is_one_message(compare, reports, wanted):
    reports.save(reports.record())
    done = compare("1", wanted)
    assert done.returncode == 2
    assert done.stderr.startswith("lakegauge: no saved report matches ")
    assert "0001_x.json" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"benchmarks": [{"stats": 3}]}']
)
def test_a_damaged_report_is_one_message(compare, reports, text):
    reports.save(reports.record())
    path = reports.write(text)
    done = compare("1", "99")
    assert done.returncode == 2
    assert done.stderr.startswith(f"lakegauge: report {path} ")
    assert "Traceback" not in done.stderr


def test_a_report_cannot_write_to_the_terminal(compare, reports):
    """A case name with an escape sequence could clear the screen, or rename it."""
    reports.save(reports.record("test_\x1b[2J\ud800"))
    reports.save(reports.record("test_\x1b[2J\ud800"))
    done = compare("1", "2")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "[2J" in done.stdout


def test_help_states_the_exit_codes(compare):
    words = " ".join(compare("--help").stdout.split())
    assert "Exit code 0: nothing regressed. 1: a case regressed, failed" in words
    assert "With one run a side there is no interval" in words
