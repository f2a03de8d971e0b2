"""Spark sessions of one's own, one after the other, as these experiments need them.

One process has one session: they run in a process of their own (`python -m`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, SparkError
from harness.settings import load_settings
from harness.spark.archive import archive_options
from harness.spark.jars import find_jars
from harness.spark.java import find_java
from harness.spark.lab import Lab
from harness.spark.quick import BRIEF_JAVA_OPTIONS
from harness.spark.session import local_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_TOLD_MAX = 2000


@contextmanager
def own_lab(
    *,
    master: str,
    quick: bool = False,
    extra_conf: Mapping[str, str] | None = None,
) -> Iterator[Lab]:
    """Start a session by the settings, but for its master; remove its files at the end.

    Args:
        master: Such as `local[1]`.
        quick: See `local_session`.
        extra_conf: Spark settings besides our own.

    Raises:
        SparkError: If Spark does not start, or there are no jars of Delta.
    """
    settings = load_settings().spark
    java = find_java()
    jars = find_jars(
        java=java,
        folder=settings.delta_jars,
        cache=settings.ivy_cache,
        ivy_settings=settings.ivy_settings,
    )
    folder = Path(tempfile.mkdtemp(prefix="lakegauge-lab-"))
    try:
        with local_session(
            java=java,
            jars=jars,
            master=master,
            driver_memory=settings.driver_memory,
            quick=quick,
            java_options=[
                *archive_options(java),
                *(BRIEF_JAVA_OPTIONS if quick else ()),
            ],
            extra_conf=extra_conf,
        ) as running:
            yield Lab(
                running.session,
                lambda: Path(tempfile.mkdtemp(dir=folder)),
                jvm_pid=running.jvm_pid,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_elsewhere(module: str, *arguments: object) -> Any:
    """Run one of these experiments in a process of its own; return its JSON.

    Args:
        module: What `python -m` runs; the last line it prints is JSON.
        arguments: Of its command line.

    Raises:
        SparkError: If it fails; with the end of what it said.
    """
    answer = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", module, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        msg = f"{module} failed: {answer.stderr.strip()[-_TOLD_MAX:]}"
        raise SparkError(msg)
    return json.loads(answer.stdout.splitlines()[-1])


def print_as_json(measure: Callable[[], Any]) -> int:
    """Print what an experiment found as `run_elsewhere` reads it, or why it failed.

    Args:
        measure: Runs it; returns a dataclass.

    Returns:
        The exit status.
    """
    try:
        found = measure()
    except (HarnessError, AssertionError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0
