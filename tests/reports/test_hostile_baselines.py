"""A baseline may come from anywhere: refused by name, or shown escaped; no crash."""

from __future__ import annotations

import copy
import json
import os

import pytest

from harness.errors import ReportError
from harness.reports.baseline import newest_comparable, resolve_baseline
from harness.reports.verdict.reading import REPORT_BYTES_MAX

CASES = """
def test_micro(benchmark):
    benchmark(lambda: sum(range(100)))

def test_series(record_durations):
    record_durations([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], measure="ttft", wall_s=2.0)
"""
SCRIPT = "benchmarks/test_cases.py::<script>alert(1)</script>\x1b[2J"


def oversized(path):
    with path.open("wb") as file:
        file.truncate(REPORT_BYTES_MAX + 1)


HOSTILE_FILES = {
    "a folder": lambda path: path.mkdir(),
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "too large": oversized,
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(b'{"benchmarks": ['),
    "not UTF-8": lambda path: path.write_bytes(b'{"benchmarks": ["\xff"]}'),
    "UTF-16": lambda path: path.write_bytes("{}".encode("utf-16")),
    "too deep": lambda path: path.write_bytes(b"[" * 100_000),
    "not a number": lambda path: path.write_bytes(b'{"benchmarks": [NaN]}'),
    "infinite": lambda path: path.write_bytes(b'{"benchmarks": [1e999]}'),
    "a list": lambda path: path.write_bytes(b"[]"),
    "null": lambda path: path.write_bytes(b"null"),
    "no cases": lambda path: path.write_bytes(b'{"machine_info": {}}'),
}


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_a_file_that_is_no_report_is_named_and_passed_over(tmp_path, kind):
    path = tmp_path / "0001_x.json"
    HOSTILE_FILES[kind](path)
    choice = newest_comparable([path], machine_info={}, smoke=False)
    assert choice.report is None
    assert len(choice.notes) == 1
    assert path.name in choice.notes[0]


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_a_baseline_asked_for_by_name_is_refused_by_name(tmp_path, kind):
    folder = tmp_path / "machine"
    folder.mkdir()
    HOSTILE_FILES[kind](folder / "0001_x.json")
    with pytest.raises(ReportError, match=r"0001_x\.json"):
        resolve_baseline(
            "0001",
            folder=tmp_path,
            machine_id="machine",
            machine_info={},
            smoke=False,
            required=False,
        )


def test_cases_with_hostile_names_and_figures_are_shown_and_judge_nothing(project):
    """All in one report: each used to end the session, or to count as a change."""
    project.write(CASES)
    assert project.run("benchmarks", "--benchmark-save=x").returncode == 0
    path = project.reports[0]
    document = json.loads(path.read_text())
    micro, series = document["benchmarks"]
    # Twice, the second time a hundred times as fast: the gate saw a regression.
    again = copy.deepcopy(micro)
    again["stats"]["min"] /= 100
    series["stats"]["throughput"] = "0.1"
    named = [copy.deepcopy(micro), copy.deepcopy(micro)]
    named[0]["fullname"], named[0]["name"] = SCRIPT, SCRIPT
    named[1]["fullname"] = "benchmarks/test\0cases.py::test_nul"
    document["benchmarks"] += [again, *named]
    path.write_text(json.dumps(document))

    outcome = project.run(
        *("benchmarks", f"--benchmark-compare={path}"),
        *("--benchmark-compare-fail=min:50%", "--benchmark-html=page.html"),
    )

    said = outcome.stdout + outcome.stderr
    assert "Traceback" not in said
    assert "INTERNALERROR" not in said
    assert not {"\x1b", "\0"} & set(said)
    assert "the baseline has it more than once" in said
    assert "throughput is '0.1', not a number" in said
    assert "found no case it could compare" in said
    assert outcome.returncode == 1, said
    page = (project.root / "page.html").read_text()
    assert "<script" not in page
    assert "alert(1)" in page
