"""`lakegauge nightly`: measure, keep, compare, look back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.reports.nightly import judge_night, night_markdown

COMMAND = Path(sys.executable).with_name("lakegauge")
CASE = """
import os
import random

def test_case(record_durations):
    off = random.Random(os.getpid()).uniform(0.998, 1.002)
    record_durations([{base} * off] * 400, measure="x", wall_s=1.0)
"""


def judged(nights, tonight, *, age_days=45):
    return judge_night(
        tonight, folder=nights.folder, age_days=age_days, rules=(), guard=True
    )


def test_a_slower_night_fails_and_the_summary_says_by_how_much(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    case = tmp_path / "benchmarks" / "test_x.py"
    environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}

    def nightly(base_s):
        case.write_text(CASE.format(base=base_s))
        return subprocess.run(
            [COMMAND, "nightly", "--summary=summary.md", "--output=verdict.xml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment | {"LAKEGAUGE_ENVIRONMENT_GUARD": "note"},
        )

    first = nightly(0.010)
    assert first.returncode == 0, first.stderr
    assert "this one is the first" in first.stdout
    slower = nightly(0.015)
    assert slower.returncode == 1, slower.stderr
    assert "REGRESSED: benchmarks/test_x.py::test_case" in slower.stdout
    names = sorted(path.name for path in (tmp_path / "reports").glob("*/*.json"))
    assert names == [f"{number:04d}_nightly.json" for number in range(1, 7)]
    summary = (tmp_path / "summary.md").read_text()
    assert summary.index("this one is the first") < summary.index("1 regressed")
    assert "### History" in summary
    assert "<failure" in (tmp_path / "verdict.xml").read_text()


def test_the_newest_comparable_nights_are_the_baseline(nights):
    for _ in range(20):
        nights.save({"test_a": 1.0})
    tonight = [nights.save({"test_a": 1.0}, days=0.01) for _ in range(3)]
    night = judged(nights, tonight)
    assert len(night.comparison.baseline) == 12
    assert night.comparison.baseline[-1].label == "0020"
    assert night.exit_code(allow_missing=False, strict=False) == 0
    assert night.notes == ()


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({"machine": {"cpu_count": 64}}, "cpu_count: 2 against 64"),
        ({"smoke": True}, "full values against smoke values"),
        ({"complete": False}, "it was cut short"),
    ],
)
def test_a_night_that_cannot_be_compared_is_passed_over_by_name(nights, about, named):
    nights.save({"test_a": 1.0})
    nights.save({"test_a": 9.0}, **about)
    night = judged(nights, [nights.save({"test_a": 1.0})])
    assert [run.label for run in night.comparison.baseline] == ["0001"]
    assert any("0002_nightly.json" in note and named in note for note in night.notes)


def test_a_stale_night_is_no_baseline(nights):
    nights.save({"test_a": 1.0}, days=100)
    night = judged(nights, [nights.save({"test_a": 1.0})])
    assert night.comparison is None
    assert any("1 run older than 45 days" in note for note in night.notes)
    assert any("this one is the first" in note for note in night.notes)
    assert night.exit_code(allow_missing=False, strict=False) == 0
    assert judged(nights, night.reports, age_days=200).comparison is not None


def test_a_damaged_night_is_passed_over_by_name(nights):
    nights.save({"test_a": 1.0})
    nights.save({"test_a": 1.0}).write_text("{")
    night = judged(nights, [nights.save({"test_a": 1.0})])
    assert any("not JSON" in note for note in night.notes)
    assert len(night.comparison.baseline) == 1


def test_a_slide_that_no_single_night_shows_is_news_of_the_history(nights):
    """A step inside the noise of one night: the verdict is open, the history is not."""
    for _ in range(25):
        nights.save({"test_a": 1.0}, noise=0.03)
    for _ in range(11):
        last = nights.save({"test_a": 1.12}, noise=0.03)
    night = judged(nights, [last])
    assert night.comparison.with_status("regressed") == []
    assert any("REGRESSED +1" in line for line in night.news)
    assert night.exit_code(allow_missing=False, strict=False) == 1
    assert "REGRESSED" in night_markdown(night)
    for _ in range(20):
        last = nights.save({"test_a": 1.12}, noise=0.03)
    later = judged(nights, [last])
    assert later.news == []
    assert later.exit_code(allow_missing=False, strict=False) == 0
