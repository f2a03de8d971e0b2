"""`.ci/pytest` runs what failed once more: it forgives a race aloud, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "pytest"
PASSES = "def test_sound(): pass\n"
FAILS = "def test_broken(): assert 1 == 2\n"
RACES = """
from pathlib import Path
def test_race():
    before = Path("seen").exists()
    Path("seen").touch()
    assert before
"""


@pytest.fixture
def run(tmp_path):
    """Run the script in a project of its own; return its exit code and its words."""
    command = tmp_path / "command"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest "$@"\n')
    command.chmod(0o755)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(folder="tests", arguments=("-n", "1"), **files):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            (tmp_path / folder / f"test_{name}.py").write_text(content)
        run = subprocess.run(
            [SCRIPT, folder, *arguments],
            cwd=tmp_path,
            env={
                **{key: os.environ[key] for key in ("PATH", "HOME")},
                "PYTEST_COMMAND": str(command),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return run.returncode, run.stdout + run.stderr

    return run


def test_passing_tests_run_once(run):
    status, said = run(a=PASSES)

    assert status == 0
    assert said.count("1 passed") == 1
    assert "ci:" not in said


def test_race_is_forgiven_and_named(run):
    status, said = run(a=PASSES, b=RACES)

    assert status == 0
    _, _, races = said.partition("RACES, to be mended")
    assert "tests/test_b.py::test_race" in races
    assert "test_sound" not in races


def test_broken_test_fails_also_beside_a_race(run):
    status, said = run(a=RACES, b=FAILS)

    assert status == 1
    assert "RACES" not in said


def test_many_failures_are_no_races(run):
    status, said = run(
        **{name: RACES.replace('"seen"', f'"{name}"') for name in "abcd"}
    )

    assert status == 1
    assert "once more" not in said


def test_failed_benchmark_is_not_run_again(run):
    """The second run would overwrite what the first one measured."""
    status, said = run(folder="benchmarks", a=RACES)

    assert status == 1
    assert "once more" not in said


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [({"a": "def broken("}, (), 2), ({"a": PASSES}, ("--no-such-option",), 4)],
)
def test_other_errors_pass_through(run, files, arguments, expected):
    status, said = run(arguments=arguments, **files)

    assert status == expected
    assert "once more" not in said
