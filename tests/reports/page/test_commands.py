"""`lakegauge report html`, `lakegauge report levels`, `pytest --benchmark-html`."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("lakegauge")


@pytest.fixture
def report(tmp_path):
    """Return a function that runs the command beside the folder of reports."""

    def run(*arguments):
        return subprocess.run(
            [COMMAND, "report", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        )

    return run


def levels_of(record):
    """Four levels: throughput rises, bends, and the last one has errors."""
    measured = ((1, 100, 0.01, 0), (2, 190, 0.0105, 0), (4, 260, 0.03, 0))
    measured += ((8, 300, 0.2, 7),)
    return [
        record(
            f"test_load[threads={threads:02d}]",
            rate_per_s=rate,
            median_s=median_s,
            workers=threads,
            errors={"CheckoutTimeoutError": 5, "UniqueViolation": 2} if errors else {},
        )
        for threads, rate, median_s, errors in measured
    ]


def test_page_of_a_saved_run_against_a_baseline(report, record, write_report, tmp_path):
    write_report([record("test_a", seed=1)], folder="Linux")
    write_report([record("test_a", seed=2)], folder="Linux")
    done = report("html", "0002", "--baseline", "0001", "-o", "page.html")

    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert 'id="verdicts"' in page
    assert "Baseline: 0001" in page


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("html", "0007"), "no saved report matches '0007'"),
        (("html", "0001", "-o", "nowhere/page.html"), "cannot be written"),
        (("levels", "0001", "-o", "levels.pdf"), "must end in one of .csv, .md"),
    ],
)
def test_what_cannot_be_made_is_said_by_name(
    report, record, write_report, arguments, reason
):
    write_report([record("test_a")], folder="Linux")
    done = report(*arguments)

    assert done.returncode == 2
    assert reason in done.stderr.replace("\n", " ")


def test_levels_have_the_columns_of_the_older_scripts(
    report, record, write_report, tmp_path
):
    write_report(levels_of(record), folder="Linux")
    done = report("levels", "0001", "-o", "levels.csv")

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO((tmp_path / "levels.csv").read_text())))
    first, last = rows[0], rows[-1]
    assert first["threads"] == "1"
    assert float(first["throughput_ops_sec"]) == pytest.approx(100)
    assert float(first["efficiency_score"]) == pytest.approx(100)
    assert float(rows[1]["efficiency_score"]) == pytest.approx(95)
    assert first["reliability_score"] == "100.0"
    assert first["total_operations"] == first["total_operations_attempted"] == "2000"
    assert last["total_operations_attempted"] == "2007"
    assert (last["error_count"], last["connection_error_count"]) == ("7", "5")
    assert float(last["error_rate_pct"]) == pytest.approx(100 * 7 / 2007, rel=1e-3)
    assert first["timestamp"] == "2026-01-01T02:00:00+00:00"
    assert float(first["duration_sec"]) == pytest.approx(20)


def test_sweet_spot_has_no_errors_and_the_knee_is_where_waiting_begins(
    report, record, write_report
):
    """The last level has more throughput, and errors: it is no sweet spot."""
    write_report(levels_of(record), folder="Linux")
    done = report("levels", "0001")

    assert "sweet spot threads 4 (260/s without errors)" in done.stdout
    assert "knee at threads 2 (190/s" in done.stdout


def test_no_knee_is_claimed_where_throughput_still_rises(report, record, write_report):
    rising = [
        record(f"test_load[threads={n:02d}]", rate_per_s=100 * n, workers=n)
        for n in (1, 2, 4)
    ]
    write_report(rising, folder="Linux")
    done = report("levels", "0001")

    assert "no knee within these levels" in done.stdout
    assert "more may be possible" in done.stdout


def test_no_sweet_spot_is_claimed_where_every_level_failed(
    report, record, write_report
):
    failing = [
        record(f"test_load[threads={n:02d}]", workers=n, errors={"OSError": 1})
        for n in (1, 2)
    ]
    write_report(failing, folder="Linux")
    done = report("levels", "0001")

    assert "no sweet spot: operations failed at every level" in done.stdout


def test_a_name_that_a_spreadsheet_would_run_is_text(
    report, record, write_report, tmp_path
):
    write_report([record("=HYPERLINK(1)|x`")], folder="Linux")
    markdown = report("levels", "0001").stdout
    report("levels", "0001", "-o", "levels.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "levels.csv").read_text()))

    assert row["case"].startswith("'=HYPERLINK")
    assert "| =HYPERLINK(1)&#124;x&#96; |" in markdown


def test_pytest_writes_the_page_of_its_run_with_verdicts(project):
    assert project.run("--benchmark-save=first").returncode == 0
    done = project.run("--benchmark-compare", "--benchmark-html=page.html")

    assert done.returncode == 0, done.stdout
    assert "page: page.html" in done.stdout
    page = (project.root / "page.html").read_text()
    for part in ("verdicts", "results", "analysis", "doubts", "provenance"):
        assert f'id="{part}"' in page, part
    assert "TTFT" in page


def test_pytest_refuses_a_page_in_no_folder_before_it_measures(project):
    done = project.run("--benchmark-html=nowhere/page.html")

    assert done.returncode == 4
    assert "--benchmark-html=nowhere/page.html" in done.stdout + done.stderr
    assert "no tests ran" in done.stdout
