"""Spark's own resolver, run once in a child process, with its noise kept in a log."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SparkError
from harness.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.spark.java import Java

_TIMEOUT_S = 900.0

# Names the group, the artifact and the version apart: `org_name-1.2.3.jar`.
_JAR_NAME = re.compile(r"^(?:[^_]+\.[^_]*_)?(?P<artifact>.+?)-\d[\w.+-]*\.jar$")

_ASKED = re.compile(r"^\s*https?://([^/:\s]+)", re.MULTILINE)
_UNKNOWN = re.compile(r"Host (\S+) not found")

# What a line of the log means, most telling first.
_CAUSES = (
    (
        "PKIX path",
        "this Java does not trust the repository's certificate",
    ),
    (
        "SSLHandshakeException",
        "the secure connection to the repository failed; see the log",
    ),
    ("No space left on device", "the disk is full"),
    ("Connection refused", "the repository refused the connection"),
    ("timed out", "the repository did not answer in time"),
    (": not found", "no repository that answered has it"),
)


def artifact_of(jar: Path) -> str:
    """Return the artifact's name without group and version."""
    match = _JAR_NAME.match(jar.name)
    return match["artifact"] if match else jar.stem


def resolve(
    coordinate: str,
    *,
    java: Java,
    folder: Path,
    log: Path,
    setting: str,
    ivy_settings: Path | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> tuple[Path, ...]:
    """Fetch an artifact and everything it needs, as `spark.jars.packages` would.

    Args:
        coordinate: Group, artifact and version, with colons.
        java: The Java to run on.
        folder: Where the resolver works; the jars returned lie below it.
        log: Where its whole output goes; removed when all went well.
        setting: How the user can give the jars instead, for the message.
        ivy_settings: Ivy settings file; default Spark's own repositories.
        tell: Called with a line for each larger step.

    Raises:
        SparkError: If something is not found or cannot be fetched.
    """
    command = _command(coordinate, java=java, folder=folder, ivy_settings=ivy_settings)
    environment = child_environment() | {
        "JAVA_HOME": str(java.home),
        "PYSPARK_PYTHON": sys.executable,
    }
    # A Spark of the user's own must not be the one that resolves for ours.
    for name in ("SPARK_HOME", "SPARK_CONF_DIR", "PYSPARK_SUBMIT_ARGS"):
        environment.pop(name, None)

    seen: list[str] = []
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(  # noqa: S603 - Spark's own launcher, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            for line in process.stdout or ():
                file.write(line)
                seen.append(line)
                if line.startswith("downloading ") and line.rstrip().endswith("..."):
                    tell(f"downloading {line.split('/')[-1].split()[0]}")
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()

    jars = tuple(sorted((folder / "jars").glob("*.jar")))
    if status != 0 or not jars:
        msg = (
            f"Delta's jars cannot be had: {coordinate}: {_cause(seen)}. Connect and "
            f"run `{Path(sys.executable).name} -m harness.spark.jars`, or copy the "
            f"jars into a folder and name it in {setting}. Resolver's log: {log}"
        )
        raise SparkError(msg)
    log.unlink(missing_ok=True)
    return jars


def _command(
    coordinate: str, *, java: Java, folder: Path, ivy_settings: Path | None
) -> list[str]:
    import pyspark

    folder.mkdir(parents=True, exist_ok=True)
    # Spark resolves before it runs the program; the program does nothing.
    nothing = folder / "nothing.py"
    nothing.write_text("")
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-submit"),
        "--master",
        "local[1]",
        "--packages",
        coordinate,
        "--conf",
        f"spark.jars.ivy={folder}",
    ]
    if ivy_settings is not None:
        command += ["--conf", f"spark.jars.ivySettings={ivy_settings}"]
    if java.options:
        command += ["--driver-java-options", " ".join(java.options)]
    return [*command, str(nothing)]


def _cause(lines: list[str]) -> str:
    text = "".join(lines)
    asked = set(_ASKED.findall(text))
    if asked and asked <= set(_UNKNOWN.findall(text)):
        return "no network: none of the repositories' names could be looked up"
    for sign, cause in _CAUSES:
        if sign in text:
            return cause
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith(("Caused by: ", "Exception "))]
    return (errors or said or ["the resolver said nothing"])[-1]
