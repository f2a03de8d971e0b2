"""Saved reports as a history: changes, commits, acknowledgements, and the index."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ReportError
from harness.reports.history.analysis import history_of
from harness.reports.history.index import FILE_NAME, measured_cases

COMMAND = Path(sys.executable).with_name("lakegauge")


def of(history, name, metric="p50"):
    wanted = (f"benchmarks/test_x.py::{name}", metric)
    return next(s for s in history.series if (s.fullname, s.metric) == wanted)


def test_a_step_has_a_size_a_night_and_the_commits_to_look_at(nights):
    nights.many(20, test_a=1.0, test_b=1.0)
    nights.many(15, test_a=1.15, test_b=1.0)
    history = history_of(nights.folder)
    (change,) = of(history, "test_a").changes
    assert change.index == 20
    assert change.ratio == pytest.approx(1.15, abs=0.03)
    assert change.status == "regressed"
    assert change.commit_range == "0020aaaaa..0021aaaaa"
    assert of(history, "test_b").changes == ()
    (throughput,) = of(history, "test_a", "throughput").changes
    assert throughput.status == "regressed"
    assert throughput.ratio == pytest.approx(1 / 1.15, abs=0.03)
    assert len(history.open_changes()) == 3
    assert history.open_changes(status="improved") == []


def test_a_drift_over_sixty_nights_is_found(nights):
    """A third of a percent a night: no night is to blame, and no pair shows it."""
    for night in range(60):
        nights.save({"test_a": 1.0033**night, "test_b": 1.0})
    history = history_of(nights.folder)
    drifting = of(history, "test_a")
    assert drifting.drift is not None
    assert drifting.drift.status == "regressed"
    assert drifting.drift.ratio == pytest.approx(1.0033**59, abs=0.05)
    assert of(history, "test_b").drift is None
    assert of(history, "test_b").changes == ()
    assert drifting in history.open_drifts
    acknowledge(
        nights.folder,
        case="*test_a",
        metric="p50",
        since="2026-02-10",
        reason="more rows",
    )
    closed = history_of(nights.folder)
    assert of(closed, "test_a").drift.acknowledged == "more rows"
    assert "p50" not in {s.metric for s in closed.open_drifts}


def test_a_step_is_no_drift(nights):
    nights.many(30, test_a=1.0)
    nights.many(30, test_a=1.3)
    assert of(history_of(nights.folder), "test_a").drift is None


def test_runs_of_one_night_are_one_point(nights):
    for _ in range(3):
        nights.save({"test_a": 1.0}, commit="c" * 9, days=0)
    (point,) = of(history_of(nights.folder), "test_a").points
    assert point.runs == 3


def test_nights_on_another_machine_are_left_out_and_counted(nights):
    for _ in range(12):
        nights.save({"test_a": 1.0}, machine={"cpu_count": 64})
    for _ in range(12):
        nights.save({"test_a": 2.0}, facts={"postgres_version": "17.10"})
    series = of(history_of(nights.folder), "test_a")
    assert len(series.points) == 12
    assert series.left_out == 12
    assert series.changes == ()


def test_a_run_that_was_cut_short_is_no_point(nights):
    nights.save({"test_a": 1.0}, complete=False)
    nights.save({"test_a": 1.0})
    assert len(of(history_of(nights.folder), "test_a").points) == 1


def acknowledge(folder, **entry):
    (folder / "acknowledged.json").write_text(json.dumps([entry]))


@pytest.mark.parametrize("since", ["0021aaaaa", "2026-01-21", "2026-01-20"])
def test_an_acknowledged_change_is_closed_and_says_why(nights, since):
    nights.many(20, test_a=1.0)
    nights.many(15, test_a=1.3)
    acknowledge(
        nights.folder, case="*test_a", metric="*", since=since, reason="TLS is on now"
    )
    history = history_of(nights.folder)
    assert of(history, "test_a").changes[0].acknowledged == "TLS is on now"
    assert history.open_changes() == []


@pytest.mark.parametrize(
    "entry",
    [
        {"case": "*test_b", "since": "2026-01-21"},
        {"case": "*test_a", "since": "2026-02-21"},
        {"case": "*test_a", "since": "0020aaaaa"},
        {"case": "*test_a", "since": "2026-01-21", "metric": "min"},
    ],
)
def test_an_acknowledgement_of_something_else_closes_nothing_and_is_named(
    nights, entry
):
    nights.many(20, test_a=1.0)
    nights.many(15, test_a=1.3)
    acknowledge(nights.folder, reason="none", **entry)
    history = history_of(nights.folder)
    assert history.open_changes()
    assert any("acknowledged for nothing" in note for note in history.notes)


@pytest.mark.parametrize(
    "text", ["{", "[{}]", '[{"case": "a", "sinse": "2026-01-01"}]']
)
def test_a_damaged_file_of_acknowledgements_is_an_error(nights, text):
    nights.many(1, test_a=1.0)
    (nights.folder / "acknowledged.json").write_text(text)
    with pytest.raises(ReportError, match=r"acknowledged.json is damaged"):
        history_of(nights.folder)


def test_the_index_is_never_the_truth(nights):
    first, second, third = nights.many(3, test_a=1.0)
    assert len(measured_cases(nights.folder)[0]) == 3
    first.unlink()
    document = json.loads(second.read_text())
    document["benchmarks"][0]["stats"]["p50"] = 7.0
    second.write_text(json.dumps(document))
    third.write_text("{")
    found, notes = measured_cases(nights.folder)
    assert [case.values["p50"] for case in found] == [7.0]
    assert len(notes) == 1
    assert "not JSON" in notes[0]


def older_version(path):
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.execute("DELETE FROM measured")
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database"),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.unlink(),
        older_version,
    ],
    ids=["rubbish", "cut short", "gone", "older"],
)
def test_an_index_that_is_no_use_is_made_anew(nights, damage):
    nights.many(3, test_a=1.0)
    before = measured_cases(nights.folder)
    damage(nights.folder / FILE_NAME)
    assert measured_cases(nights.folder) == before


def test_a_second_look_reads_no_report_again(nights):
    nights.many(40, test_a=1.0)
    read = []
    first = measured_cases(nights.folder, say=lambda done, _all: read.append(done))
    assert len(read) == 40
    read.clear()
    second = measured_cases(nights.folder, say=lambda done, _all: read.append(done))
    assert read == []
    assert first == second


def history(folder, *arguments):
    return subprocess.run(
        [COMMAND, "history", *arguments],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )


def test_the_command_shows_changes_and_acknowledges_them(nights):
    nights.many(20, test_a=1.0, test_b=1.0)
    nights.many(15, test_a=1.3, test_b=1.0)
    done = history(nights.folder)
    assert done.returncode == 1, done.stderr
    assert "2026-01-21" in done.stdout
    assert "+30" in done.stdout or "+29" in done.stdout or "+31" in done.stdout
    assert "0020aaaaa..0021aaaaa" in done.stdout
    document = json.loads(history(nights.folder, "--json").stdout)
    assert len(document["series"]) == 8
    closed = history(nights.folder, "test_a", "--acknowledge=a new index")
    assert closed.returncode == 0, closed.stderr
    entries = json.loads((nights.folder / "acknowledged.json").read_text())
    assert {entry["reason"] for entry in entries} == {"a new index"}
    again = history(nights.folder)
    assert again.returncode == 0
    assert "acknowledged: a new index" in again.stdout


def test_a_folder_without_reports_is_an_error(nights):
    nights.folder.mkdir()
    done = history(nights.folder)
    assert done.returncode == 2
    assert "no report" in done.stderr
