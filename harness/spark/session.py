"""One Spark session for a run, in a JVM of our own; `remote` is the other kind."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError
from harness.settings import redact
from harness.settings.environment import scrubbed_environment
from harness.spark import python_daemon
from harness.spark import quick as quick_run
from harness.spark.python_launcher import python_launcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from harness.spark.jars import DeltaJars
    from harness.spark.java import Java

_JVM_EXIT_TIMEOUT_S = 20.0
_LOG_TAIL_LINES = 12


# Each would make the session another one than the settings say.
FOREIGN_VARIABLES = (
    "MASTER",
    "PYSPARK_GATEWAY_PORT",
    "PYSPARK_GATEWAY_SECRET",
    "PYSPARK_SUBMIT_ARGS",
    "SPARK_API_MODE",
    "SPARK_CONNECT_MODE_ENABLED",
    "SPARK_HOME",
    "SPARK_LOCAL_REMOTE",
    "SPARK_REMOTE",
)

# Executors of another machine call the driver; nobody else needs to reach it.
_OF_THIS_MACHINE = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.python.daemon.module": python_daemon.MODULE,
}

# A console full of Hadoop's warnings hides ours: they go to a file.
_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningSpark:
    """A session and what a report must say about it.

    Attributes:
        session: The session.
        spark_version: As the session says, such as "4.2.0".
        delta_version: Version of the jars; "server" where they are another's.
        master: Such as "local[*]"; "connect" for Spark Connect.
        java_major: Such as 17; None where the JVM is another's.
        start_time_s: From asking for the session to its first answer, in seconds.
        jvm_pid: Process of the JVM; None where it is another's.
    """

    session: SparkSession
    spark_version: str
    delta_version: str
    master: str
    java_major: int | None
    start_time_s: float
    jvm_pid: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return what makes figures of two sessions different experiments."""
        facts = {
            "spark_version": self.spark_version,
            "delta_version": self.delta_version,
            "spark_master": self.master,
        }
        return facts | ({"java_major": self.java_major} if self.java_major else {})


@contextmanager
def local_session(
    *,
    java: Java,
    jars: DeltaJars,
    master: str = "local[*]",
    driver_memory: str = "2g",
    quick: bool = False,
    java_options: Sequence[str] = (),
    extra_conf: Mapping[str, str] | None = None,
    exit_timeout_s: float = _JVM_EXIT_TIMEOUT_S,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[RunningSpark]:
    """Start a JVM with Spark and Delta; stop it and remove its files at the end.

    The JVM ends with this process, however that ends: it watches a pipe.

    Args:
        java: The Java to run on.
        jars: Delta's jars.
        master: A local master, such as `local[2]`.
        driver_memory: Heap of the JVM, such as `2g`.
        quick: Whether a short run matters more than a fast engine: see `quick`.
        java_options: Further options of the JVM.
        extra_conf: Spark settings besides our own.
        exit_timeout_s: How long the JVM may take to end before it is killed.
        clock: Measures how long the start took.

    Raises:
        SparkError: If Spark does not start; with the end of its log.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    if SparkContext._active_spark_context is not None:  # noqa: SLF001 - no other way
        msg = "this process runs a Spark session already; stop it before the harness's"
        raise SparkError(msg)
    folder = Path(tempfile.mkdtemp(prefix="lakegauge-spark-"))
    wanted = configuration(
        folder,
        java_options=[
            *java.options,
            *java_options,
            *(quick_run.JAVA_OPTIONS if quick else ()),
        ],
        jars=jars,
        master=master,
        driver_memory=driver_memory,
    )
    wanted |= quick_run.CONF if quick else {}
    wanted |= extra_conf or {}
    conf = SparkConf(loadDefaults=False).setAll(list(wanted.items()))
    begun_ns = clock.monotonic_ns()
    gateway = None
    executors_folder = None
    try:
        # Everything below it inherits the environment of the JVM at its start.
        with scrubbed_environment(
            extra={
                "JAVA_HOME": str(java.home),
                "PYSPARK_PYTHON": python_for(folder, master),
                **python_daemon.ENVIRONMENT,
            },
            drop=FOREIGN_VARIABLES,
        ):
            try:
                gateway = _launch(conf, folder)
                context = SparkContext(conf=conf, gateway=gateway)
            except Exception as error:
                msg = (
                    f"Spark did not start on {master} with Java {java.version} "
                    f"({java.found}) and {driver_memory} of heap: "
                    f"{log_tail(folder) or error}"
                )
                raise SparkError(redact(msg)) from error
        # Where the executors of a local-cluster keep copies of all jars.
        executors_folder = spark_home() / "work" / context.applicationId
        session = SparkSession(context)
        yield RunningSpark(
            session=session,
            spark_version=session.version,
            delta_version=jars.version,
            master=master,
            java_major=java.major,
            start_time_s=(clock.monotonic_ns() - begun_ns) / NS_PER_S,
            jvm_pid=gateway.proc.pid,
        )
    finally:
        _stop(gateway, exit_timeout_s=exit_timeout_s)
        shutil.rmtree(folder, ignore_errors=True)
        if executors_folder is not None:
            shutil.rmtree(executors_folder, ignore_errors=True)


def configuration(
    folder: Path,
    *,
    java_options: list[str],
    jars: DeltaJars,
    master: str,
    driver_memory: str,
) -> dict[str, str]:
    """Return the settings of a local Spark that keeps its files in *folder*."""
    log4j = folder / "log4j2.properties"
    log4j.write_text(_LOG4J.replace("{log}", str(folder / "spark.log")))
    options = [
        f"-Dlog4j2.configurationFile={log4j}",
        f"-Djava.io.tmpdir={folder}",
        *java_options,
    ]
    return {
        "spark.app.name": "lakegauge",
        "spark.master": master,
        "spark.driver.memory": driver_memory,
        "spark.driver.extraJavaOptions": " ".join(options),
        "spark.jars": ",".join(path.as_uri() for path in jars.paths),
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        # Each batch is a figure: none may be forgotten before it was read.
        "spark.sql.streaming.numRecentProgressUpdates": "100000",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": (
            "org.apache.spark.sql.delta.catalog.DeltaCatalog"
        ),
        "spark.databricks.delta.snapshotPartitions": "2",
    } | (_OF_THIS_MACHINE | _kept_workers(master) if _is_here(master) else {})


def _kept_workers(master: str) -> dict[str, str]:
    """Keep one idle Python worker for each task that can run at once.

    More are there when streams ran side by side, each some 25 MB; to fork one anew
    takes milliseconds.
    """
    slots = re.fullmatch(r"local\[(\d+|\*)(?:,\d+)?\]", master)
    if slots is None:
        return {}
    count = os.cpu_count() or 1 if slots[1] == "*" else int(slots[1])
    return {"spark.python.factory.idleWorkerMaxPoolSize": str(count)}


def python_for(folder: Path, master: str = "local") -> str:
    """Return what starts a Python process; another machine has no launcher of ours."""
    if not _is_here(master):
        return sys.executable
    python = python_launcher(spark_home())
    return str(python_daemon.write_launcher(folder, python=python))


def _is_here(master: str) -> bool:
    return master.startswith("local")


def spark_home() -> Path:
    """Return the folder of the Spark that pyspark brings."""
    import pyspark

    return Path(pyspark.__file__).parent


def _launch(conf: Any, folder: Path) -> Any:
    """Start the JVM, with what it prints in a file."""
    from pyspark.java_gateway import launch_gateway

    with (folder / "jvm.log").open("wb") as log:
        return launch_gateway(  # type: ignore[no-untyped-call] # untyped in pyspark
            conf, popen_kwargs={"stdout": log, "stderr": subprocess.STDOUT}
        )


def _stop(gateway: Any, *, exit_timeout_s: float) -> None:
    """Stop Spark and end its JVM, so that nothing of it outlives the run."""
    from pyspark import SparkContext

    with suppress(Exception):
        if (context := SparkContext._active_spark_context) is not None:  # noqa: SLF001
            context.stop()
    # pyspark keeps its JVM for ever; forgetting it lets a later session start one.
    SparkContext._gateway = None  # noqa: SLF001 - there is no public way
    SparkContext._jvm = None  # noqa: SLF001 - there is no public way
    if gateway is None:
        return
    with suppress(Exception):
        gateway.shutdown()
    process = gateway.proc
    # The JVM ends when this pipe does.
    process.stdin.close()
    try:
        process.wait(timeout=exit_timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(folder: Path) -> str:
    """Return the last lines that the JVM wrote, stack frames left out."""
    lines: list[str] = []
    for name in ("jvm.log", "spark.log"):
        path = folder / name
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            lines += [
                line
                for line in text.splitlines()
                if line.strip() and not line.startswith(("\tat ", "WARNING: "))
            ]
    return "\n".join(lines[-_LOG_TAIL_LINES:])
