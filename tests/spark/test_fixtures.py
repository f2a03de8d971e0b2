"""What a run says and does where the session cannot be what its tests need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CASE = """
import pytest

@pytest.mark.needs("plans")
def test_needs_spark(spark):
    assert spark

def test_needs_none():
    pass
"""


def run_pytest(folder, *arguments, **environment):
    (folder / "test_case.py").write_text(CASE)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        check=False,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.spark
def test_without_delta_jars_what_needs_them_is_skipped_by_name_and_counted(tmp_path):
    """A repository that cannot be reached, and a cache with nothing in it."""
    nowhere = tmp_path / "ivysettings.xml"
    nowhere.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers>'
        '<filesystem name="none"><artifact pattern="/nonexistent/[artifact].jar"/>'
        "</filesystem></resolvers></ivysettings>"
    )
    cache = tmp_path / "cache"
    cache.mkdir()

    answer = run_pytest(
        tmp_path,
        LAKEGAUGE_SPARK_IVY_SETTINGS=str(nowhere),
        LAKEGAUGE_SPARK_IVY_CACHE=str(cache),
    )

    said = answer.stdout
    assert "1 passed, 1 skipped" in said, said + answer.stderr
    assert "spark: 1 tests SKIPPED for want of Delta's jars, in test_case.py" in said


def test_folder_of_jars_that_was_named_and_is_not_there_is_an_error(tmp_path):
    """Who names one means it: nothing is skipped, and nothing else tried."""
    answer = run_pytest(tmp_path, "--delta-jars", str(tmp_path / "missing"))

    assert answer.returncode == 4
    assert "spark.delta_jars" in answer.stdout + answer.stderr


def test_session_that_lacks_a_capability_skips_with_its_name(tmp_path):
    """A server that is not there is never asked: the skip comes first."""
    (tmp_path / "test_case.py").write_text(CASE)
    code = """
import sys, socket, pytest
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
sys.exit(pytest.main(["-rs", "--spark-remote", f"sc://127.0.0.1:{port}"]))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert "1 passed, 1 skipped" in answer.stdout, answer.stdout + answer.stderr
    assert "Spark backend Remote lacks plans" in answer.stdout
