"""`lakegauge ab`: real processes, real git, real environments."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.reports.experiments.schedule import make_schedule
from harness.reports.experiments.variants import variant_of

COMMAND = Path(sys.executable).with_name("lakegauge")

CASES = """
import os
import random
import pytest
import subject

def durations(base):
    off = random.Random(os.getpid()).uniform(0.9995, 1.0005)
    return [base * off] * 400

@pytest.mark.parametrize("name", ["changed", "same"])
def test_case(record_durations, name):
    base = subject.BASE_S if name == "changed" else 0.01
    record_durations(
        durations(base * float(os.environ.get("SUBJECT_FACTOR", "1"))),
        measure="x",
        wall_s=1.0,
        details={"hash_seed": os.environ["PYTHONHASHSEED"]},
    )
"""


class Project:
    """A git repository with a package and a benchmark of it."""

    def __init__(self, root):
        self.root = root
        (root / "benchmarks").mkdir(parents=True)
        (root / "subject").mkdir()
        (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
        (root / "benchmarks" / "test_cases.py").write_text(CASES)
        self.git("init", "-q")
        self.commit(0.010)

    def git(self, *arguments):
        about = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", *about, *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, base_s):
        (self.root / "subject" / "__init__.py").write_text(f"BASE_S = {base_s}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", f"base {base_s}")

    def ab(self, *arguments, **environ):
        environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}
        return subprocess.run(
            [COMMAND, "ab", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            # The tests share their machine with others.
            env=environment | {"LAKEGAUGE_ENVIRONMENT_GUARD": "note"} | environ,
        )

    def reports(self):
        found = sorted((self.root / "reports" / "ab").glob("*/[AB]/*.json"))
        return [json.loads(path.read_text()) for path in found]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project")


def test_two_revisions_are_built_run_in_pairs_and_judged(project):
    project.commit(0.015)
    # What is being edited now must not be what is measured.
    (project.root / "subject" / "__init__.py").write_text("BASE_S = 1.0\n")
    done = project.ab("HEAD~1", "HEAD", "--pairs=3", "--until=9", "--seed=5")
    assert done.returncode == 1, done.stderr
    assert "REGRESSED: benchmarks/test_cases.py::test_case[changed]" in done.stdout
    assert re.search(r"\+(49\.9|50\.[01]) %", done.stdout)
    assert "VERDICT: 1 regressed, 1 equivalent" in done.stdout
    assert "3 pairs; one value per run" in done.stdout
    # Settled at the first of the three looks that were declared.
    assert "looks after 3, 6, 9 pairs, each at 1/3 of the level" in done.stderr
    assert "pair 3 of 9: B against A: " in done.stderr
    assert "(an estimate, no verdict)" in done.stderr
    assert "level; ends early only when every case is settled; case by case" in (
        done.stderr
    )
    reports = project.reports()
    assert len(reports) == 6
    places = [report["lakegauge"]["pair"] for report in reports]
    seeds = {}
    for report, place in zip(reports, places, strict=True):
        details = report["benchmarks"][0]["extra_info"]["lakegauge"]["details"]
        seeds.setdefault(place["index"], []).append(details["hash_seed"])
    assert all(first == second for first, second in seeds.values())
    assert len({first for first, _ in seeds.values()}) == 3
    commits = {r["commit_info"]["id"] for r in reports}
    assert commits == {project.git("rev-parse", r) for r in ("HEAD", "HEAD~1")}
    assert project.git("worktree", "list").count("\n") == 0
    again = project.ab("HEAD~1", "HEAD", "--pairs=0")
    assert again.returncode == 2
    assert "pairs must be from 1" in again.stderr


def test_two_settings_are_compared_though_nothing_else_differs(project):
    done = project.ab(
        *("SUBJECT_FACTOR=1", "SUBJECT_FACTOR=0.5", "--pairs=3"),
        *("--output=verdict.json", "--interleave=runs"),
    )
    assert done.returncode == 0, done.stderr
    assert "VERDICT: 2 improved" in done.stdout
    document = json.loads((project.root / "verdict.json").read_text())
    assert document["paired"] is True
    plan = json.loads(
        next((project.root / "reports").glob("ab/*/plan.json")).read_text()
    )
    assert plan["rule"] == "3 pairs, one look at the end"
    assert plan["by_case"] is False
    assert plan["sides"]["B"]["variant"] == "SUBJECT_FACTOR=0.5"


def test_the_runs_of_a_pair_live_at_once_and_only_one_works_at_a_time(project):
    """Each case notes when it worked; neighbours in time are the two of one case."""
    (project.root / "benchmarks" / "test_cases.py").write_text(
        "import os\n"
        "import pytest\n"
        "@pytest.mark.parametrize('name', ['x', 'y', 'z'])\n"
        "def test_case(record_durations, name):\n"
        "    line = os.open('../log', os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
        "    side = os.environ['SUBJECT_SIDE']\n"
        "    os.write(line, f'begin {name} {side} '.encode())\n"
        "    record_durations([0.01] * 400, measure='x', wall_s=1.0)\n"
        "    os.write(line, f'end {name} {side}\\n'.encode())\n"
    )
    done = project.ab("SUBJECT_SIDE=A", "SUBJECT_SIDE=B", "--pairs=2", "--seed=1")
    assert done.returncode == 0, done.stderr
    lines = (project.root.parent / "log").read_text().splitlines()
    assert len(lines) == 12
    orders = []
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        (_, case, side, _, *ended), (_, *other) = first.split(), second.split()
        assert ended == [case, side]
        assert other[0] == case
        assert {side, other[1]} == {"A", "B"}
        orders.append(side + other[1])
    # Every other case the other way round, and each case once so and once so.
    assert {*zip(orders[:3], orders[3:], strict=True)} == {("AB", "BA"), ("BA", "AB")}


def test_options_of_pytest_and_environments_are_sides_too(project):
    done = project.ab(
        "--benchmark-max-time=0.1", str(Path(sys.executable)), "--pairs=1"
    )
    assert done.returncode == 0, done.stderr
    assert "VERDICT: 2 inconclusive" in done.stdout
    assert "One run a side" in done.stdout


def test_a_side_that_cannot_run_is_one_error_with_the_end_of_its_output(project):
    done = project.ab("--no-such-option", ".", "--pairs=2")
    assert done.returncode == 2
    assert "the run of '--no-such-option' left no report" in done.stderr
    assert "unrecognized arguments: --no-such-option" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_side_is_one_error_before_any_run(project):
    done = project.ab("no-such-branch", "HEAD")
    assert done.returncode == 2
    assert "'no-such-branch' is no git revision" in done.stderr
    assert project.reports() == []


def test_a_secret_is_refused_on_the_command_line():
    with pytest.raises(ConfigError, match="every user of the machine") as refused:
        variant_of("LAKEBASE_PASSWORD=canary-7b1c")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("--pool=queue --preset=light", "options"),
        ("DB_POOL_SIZE=40", "variable"),
        ("main", "revision"),
        ("v1.2=rc", "revision"),
        (sys.executable, "environment"),
        (sys.prefix, "environment"),
    ],
)
def test_a_side_is_understood_by_its_form(text, kind):
    assert variant_of(text).kind == kind


def test_a_revision_that_would_import_other_code_is_refused(project):
    """A copy that comes first would be measured twice and found equivalent."""
    (project.root / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.util import spec_from_file_location as spec\n"
        f"COPY = {str(project.root / 'subject' / '__init__.py')!r}\n"
        "class First:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return spec(name, COPY) if name == 'subject' else None\n"
        "sys.meta_path.insert(0, First())\n"
    )
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "a copy comes first")
    done = project.ab("HEAD", "HEAD", "--pairs=1")
    assert done.returncode == 2
    assert "would import subject from" in done.stderr


def test_the_order_of_a_schedule_is_balanced_shuffled_and_repeatable():
    schedule = make_schedule(pairs=12, pairs_max=None, seed=3)
    orders = [pair.order for pair in schedule.pairs]
    assert orders.count("AB") == orders.count("BA") == 6
    assert orders not in (["AB", "BA"] * 6, ["BA", "AB"] * 6, sorted(orders))
    assert len({pair.hash_seed for pair in schedule.pairs}) == 12
    assert make_schedule(pairs=12, pairs_max=None, seed=3) == schedule
    assert make_schedule(pairs=12, pairs_max=None, seed=4) != schedule


def test_the_looks_of_a_schedule_end_at_the_maximum():
    schedule = make_schedule(pairs=5, pairs_max=12, seed=1)
    assert schedule.looks == (5, 10, 12)
    assert len(schedule.pairs) == 12
