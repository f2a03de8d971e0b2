"""`.ci/history`: nightly reports survive on a branch of their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "history"


def git(folder, *arguments):
    about = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *about, "-C", folder, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path):
    """Return a function that makes a fresh clone, as a runner does every night."""
    origin, first = tmp_path / "origin.git", tmp_path / "first"
    git(tmp_path, "init", "-q", "--bare", origin)
    git(tmp_path, "clone", "-q", origin, first)
    (first / ".ci").mkdir()
    shutil.copy(SCRIPT, first / ".ci" / "history")
    git(first, "add", "-A")
    git(first, "commit", "-q", "-m", "code")
    git(first, "push", "-q", "origin", "HEAD")

    def make(name):
        folder = tmp_path / name
        git(tmp_path, "clone", "-q", origin, folder)
        return folder

    return make


def history(folder, command):
    return subprocess.run(
        [folder / ".ci" / "history", command],
        check=False,
        capture_output=True,
        text=True,
    )


def put(folder, name, text="{}"):
    path = folder / "reports" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_reports_of_one_night_are_there_in_the_next(clone):
    one = clone("one")
    assert history(one, "fetch").returncode == 0
    put(one, "Linux/0001_nightly.json", "first")
    put(one, "Linux/0002_mine.json")
    put(one, "ab/x/A/0001_A.json")
    kept = history(one, "keep")
    assert kept.returncode == 0, kept.stderr
    two = clone("two")
    assert history(two, "fetch").returncode == 0
    found = sorted(p.name for p in (two / "reports").rglob("*.json"))
    assert found == ["0001_nightly.json"]
    put(two, "Linux/0002_nightly.json", "second")
    put(two, "acknowledged.json", "[]")
    kept = history(two, "keep")
    assert kept.returncode == 0, kept.stderr
    three = clone("three")
    history(three, "fetch")
    found = sorted(p.name for p in (three / "reports").rglob("*.json"))
    assert found == ["0001_nightly.json", "0002_nightly.json", "acknowledged.json"]
    # The branch of the code knows nothing of it.
    assert "reports" not in git(three, "ls-tree", "--name-only", "HEAD")


def test_a_night_without_a_report_is_no_failure(clone):
    one = clone("one")
    assert history(one, "fetch").returncode == 0
    kept = history(one, "keep")
    assert kept.returncode == 0, kept.stderr
    assert "nothing new" in kept.stdout


def test_an_unknown_command_is_a_usage_error(clone):
    done = history(clone("one"), "forget")
    assert done.returncode == 2
    assert "usage" in done.stderr
