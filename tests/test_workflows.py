"""The GitHub workflows: every step's shell runs, and what it calls exists as called."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness.settings.catalogue import by_variable

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
# What the steps call; each is replaced by a script that notes how it was called.
CALLED = (
    *(".venv/bin/lakegauge", ".venv/bin/pytest", ".venv/bin/python"),
    *(".ci/history", ".ci/run", "bin/make", "bin/python"),
)
NOTE = """#!/usr/bin/env {python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
"""
SECRETS = {
    "DATABRICKS_HOST": "https://h.example.org",
    "DATABRICKS_CLIENT_ID": "id",
    "DATABRICKS_CLIENT_SECRET": "canary-4f",
    "LAKEBASE_ENDPOINT": "projects/p/branches/b/endpoints/e",
}


def steps_of(path):
    """Return (job, number, step, job's environment) of every step that runs a shell."""
    document = yaml.safe_load(path.read_text())
    for name, job in document["jobs"].items():
        environment = {**document.get("env", {}), **job.get("env", {})}
        for number, step in enumerate(job["steps"]):
            if "run" in step:
                yield name, number, step, {**environment, **step.get("env", {})}


STEPS = [
    pytest.param(*found, id=f"{path.stem}-{found[0]}-step={found[1]:02d}")
    for path in WORKFLOWS
    for found in steps_of(path)
]


class Runner:
    """A folder in which the steps run as on a runner, their tools replaced."""

    def __init__(self, folder):
        self.folder = folder
        self.calls = folder / "calls"
        self.output = folder / "output"
        self.calls.touch()
        self.output.touch()
        for name in CALLED:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(NOTE.format(python=sys.executable, name=name))
            path.chmod(0o755)

    def run(self, script, environment, secrets):
        def value(match):
            word = match[1].strip()
            return secrets.get(word.removeprefix("secrets."), "")

        filled = {
            key: re.sub(r"\$\{\{(.*?)\}\}", value, str(text))
            for key, text in environment.items()
        }
        assert "${{" not in script, "what a shell gets comes by its environment"
        # As GitHub runs a step on Linux.
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
                "HOME": str(self.folder),
                "CALLS": str(self.calls),
                "GITHUB_OUTPUT": str(self.output),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
                **filled,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def called(self):
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def real(command):
    """Run a command of the project itself, in the project."""
    environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def check_call(name, arguments):
    """Hold one call against what it calls."""
    if name == ".venv/bin/lakegauge":
        # An option that does not exist is refused before help is printed.
        done = real([BIN / "lakegauge", *arguments, "--help"])
        assert done.returncode == 0, done.stderr
        assert "Usage: lakegauge" in done.stdout
        for word in arguments:
            if word.startswith("benchmarks/"):
                assert (ROOT / word).is_file(), word
    elif name == ".venv/bin/pytest":
        done = real([sys.executable, "-m", "pytest", "--collect-only", *arguments])
        assert done.returncode == 0, done.stdout
    elif name.startswith(".ci/"):
        assert os.access(ROOT / name, os.X_OK)
        assert real(["bash", "-n", name]).returncode == 0
        if arguments:
            text = (ROOT / name).read_text()
            assert re.search(rf"^  {arguments[0]}\)$", text, re.MULTILINE)
    elif name == "bin/make":
        done = real(["make", "--dry-run", *arguments])
        assert done.returncode == 0, done.stderr
    else:
        # -m pip install ... or -m venv ...
        assert arguments[0] == "-m"
        assert arguments[1] in {"pip", "venv"}
        if "--constraint" in arguments:
            assert (ROOT / arguments[arguments.index("--constraint") + 1]).is_file()


def test_there_are_workflows_whose_steps_are_looked_at():
    assert {path.name for path in WORKFLOWS} == {"ci.yml", "nightly.yml"}
    assert len(STEPS) >= 8


@pytest.mark.parametrize(("_job", "_number", "step", "environment"), STEPS)
def test_a_step_runs_and_calls_what_exists(runner, _job, _number, step, environment):
    done = runner.run(step["run"], environment, SECRETS)
    assert done.returncode == 0, done.stderr
    assert "canary-4f" not in done.stdout + done.stderr
    for name, *arguments in runner.called():
        check_call(name, arguments)
    # A step either calls something of ours or tells the next ones something.
    assert runner.called() or runner.output.read_text()


def test_a_call_with_an_option_that_does_not_exist_is_found():
    """The control: a step that had rotted would fail the test above."""
    with pytest.raises(AssertionError, match="No such option"):
        check_call(".venv/bin/lakegauge", ["nightly", "--no-such-option"])
    with pytest.raises(AssertionError):
        check_call("bin/make", ["no-such-target"])


@pytest.mark.parametrize(
    ("secrets", "present"),
    [
        (SECRETS, True),
        ({}, False),
        ({k: v for k, v in SECRETS.items() if k != "LAKEBASE_ENDPOINT"}, False),
    ],
    ids=["all", "none", "one missing"],
)
def test_lakebase_is_measured_only_where_there_are_secrets(runner, secrets, present):
    _, _, first, environment = next(
        found for found in steps_of(WORKFLOWS[1]) if found[0] == "workspace"
    )
    done = runner.run(first["run"], environment, secrets)
    assert done.returncode == 0
    assert ("present=true" in runner.output.read_text()) is present
    assert ("::notice::" in done.stdout) is not present
    document = yaml.safe_load(WORKFLOWS[1].read_text())
    for step in document["jobs"]["workspace"]["steps"][1:]:
        assert f"steps.{first['id']}.outputs.present" in step["if"]


def test_secrets_and_settings_of_the_workflows_are_variables_we_read():
    known = {*by_variable(), "HISTORY", "PYTHON"}
    for path in WORKFLOWS:
        for _, _, _, environment in steps_of(path):
            assert set(environment) - known == set()


def test_every_action_is_named_with_a_version():
    for path in WORKFLOWS:
        used = re.findall(r"uses: (\S+)", path.read_text())
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", name) for name in used)
