"""A revision that asks for other packages is measured with those, in its own place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

COMMAND = Path(sys.executable).with_name("lakegauge")
ROOT = Path(__file__).parents[3]

# A build backend that needs nothing: an editable wheel with a path in it.
BACKEND = """
import pathlib
import zipfile

NAME = "project-1.0"

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(folder, config_settings=None, metadata_directory=None):
    here = pathlib.Path(__file__).parent
    name = f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        wheel.writestr("project.pth", f"{here}\\n")
        wheel.writestr(
            f"{NAME}.dist-info/METADATA",
            "Metadata-Version: 2.1\\nName: project\\nVersion: 1.0\\n" + REQUIRES,
        )
        wheel.writestr(
            f"{NAME}.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n"
        )
        wheel.writestr(f"{NAME}.dist-info/RECORD", "")
    return name
"""

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "project"
version = "1.0"
dependencies = {dependencies}

[tool.pytest.ini_options]
"""

CASES = """
import os
import random
import sys

try:
    from speed_of_old import BASE_S
except ImportError:
    BASE_S = 0.010

def test_case(record_durations):
    off = random.Random(os.getpid()).uniform(0.9995, 1.0005)
    details = {"prefix": sys.prefix}
    record_durations([BASE_S * off] * 400, measure="x", wall_s=1.0, details=details)
"""


def write_wheel(folder, name, files):
    """Write a wheel by hand: the package index is not asked for anything."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def git(root, *arguments):
    about = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(
        ["git", *about, *arguments], cwd=root, check=True, capture_output=True
    )


def commit(root, dependencies):
    (root / "pyproject.toml").write_text(
        PYPROJECT.format(dependencies=json.dumps(dependencies))
    )
    requires = "".join(f"Requires-Dist: {name}\n" for name in dependencies)
    (root / "backend.py").write_text(f"REQUIRES = {requires!r}\n{BACKEND}")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", f"needs {dependencies}")


def test_a_revision_with_other_dependencies_gets_an_environment_of_its_own(tmp_path):
    wheels, root = tmp_path / "wheels", tmp_path / "project"
    # What the old revision needs, and this environment has not got.
    write_wheel(wheels, "speed_of_old", {"speed_of_old.py": "BASE_S = 0.020\n"})
    # Stands for pytest and lakegauge, which are here already.
    here = [str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]
    write_wheel(wheels, "measuring", {"measuring.pth": "\n".join(here)})
    (root / "benchmarks").mkdir(parents=True)
    (root / "benchmarks" / "test_cases.py").write_text(CASES)
    git(root, "init", "-q")
    commit(root, ["speed_of_old==1.0", "measuring==1.0"])
    commit(root, [])
    environment = {k: v for k, v in os.environ.items() if k[:7] != "PYTEST_"}

    done = subprocess.run(
        [COMMAND, "ab", "HEAD~1", "HEAD", "--pairs=3", "--output=verdict.json"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment
        | {
            "LAKEGAUGE_ENVIRONMENT_GUARD": "note",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
        },
    )

    assert done.returncode == 0, done.stderr
    assert "VERDICT: 1 improved" in done.stdout
    metric = json.loads((root / "verdict.json").read_text())["cases"][0]["metrics"][0]
    assert 0.49 < metric["ratio"] < 0.51
    prefixes = {"A": set(), "B": set()}
    for path in (root / "reports" / "ab").glob("*/[AB]/*.json"):
        block = json.loads(path.read_text())["benchmarks"][0]["extra_info"]["lakegauge"]
        prefixes[path.parent.name].add(block["details"]["prefix"])
    assert prefixes["B"] == {sys.prefix}
    (own,) = prefixes["A"]
    assert own != sys.prefix
    assert not Path(own).exists()  # removed with all else that was built


def test_a_revision_whose_packages_cannot_be_had_is_one_error_before_any_run(tmp_path):
    root = tmp_path / "project"
    (root / "benchmarks").mkdir(parents=True)
    (root / "benchmarks" / "test_cases.py").write_text(CASES)
    git(root, "init", "-q")
    commit(root, ["no_such_package==1.0"])
    commit(root, [])

    done = subprocess.run(
        [COMMAND, "ab", "HEAD~1", "HEAD", "--pairs=3"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PIP_NO_INDEX": "1"},
    )

    assert done.returncode == 2
    assert "cannot build an environment for" in done.stderr
    assert "no_such_package==1.0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "reports" / "ab").exists()
