"""A Spark Connect server of our own: a process on this machine, on loopback.

It runs the same jars and settings as a session in this process. What is tested over it
is what a remote cluster will be asked: pickled sinks and sources, no JVM to reach into.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError
from harness.settings.environment import scrubbed_environment
from harness.spark import python_daemon
from harness.spark.session import (
    FOREIGN_VARIABLES,
    configuration,
    log_tail,
    python_for,
    spark_home,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.spark.jars import DeltaJars
    from harness.spark.java import Java

_SERVER_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
_START_TIMEOUT_S = 120.0
_EXIT_TIMEOUT_S = 20.0
_POLL_DELAY_S = 0.1


@dataclass(frozen=True, slots=True)
class ConnectServer:
    """A server that answers.

    Attributes:
        address: `sc://localhost:port`, with the token it asks for.
        pid: Its process.
    """

    address: str
    pid: int


@contextmanager
def connect_server(
    *,
    java: Java,
    jars: DeltaJars,
    threads: str = "*",
    driver_memory: str = "2g",
    java_options: Sequence[str] = (),
    extra_conf: Mapping[str, str] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[ConnectServer]:
    """Start a server; end it, and remove its files, at the end.

    Only who knows its token is let in: other users of this machine reach loopback too.

    Args:
        java: The Java to run on.
        jars: Delta's jars.
        threads: Of its local master: a number, or "*" for one per core.
        driver_memory: Heap of its JVM.
        java_options: Further options of its JVM.
        extra_conf: Spark settings besides our own.
        clock: For the wait until it answers.

    Raises:
        SparkError: If it does not answer; with the end of its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="lakegauge-connect-"))
    port = _free_port()
    token = secrets.token_urlsafe(24)
    conf = configuration(
        folder,
        java_options=[*java.options, *java_options],
        jars=jars,
        master=f"local[{threads}]",
        driver_memory=driver_memory,
    )
    conf |= {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.connect.authenticate.token": token,
        **(extra_conf or {}),
    }
    # A file, not arguments: those are in the process list, for everyone to read.
    settings = folder / "spark.conf"
    settings.touch(mode=0o600)
    settings.write_text("".join(f"{key} {value}\n" for key, value in conf.items()))
    process = None
    try:
        with (
            (folder / "jvm.log").open("wb") as log,
            scrubbed_environment(
                extra={
                    "JAVA_HOME": str(java.home),
                    "PYSPARK_PYTHON": python_for(folder),
                    **python_daemon.ENVIRONMENT,
                },
                drop=FOREIGN_VARIABLES,
            ),
        ):
            process = subprocess.Popen(  # noqa: S603 - Spark's own script, no shell
                [
                    str(spark_home() / "bin" / "spark-submit"),
                    "--properties-file",
                    str(settings),
                    "--class",
                    _SERVER_CLASS,
                    "spark-internal",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        _wait_until_it_answers(process, port, folder, clock=clock)
        yield ConnectServer(f"sc://localhost:{port}/;token={token}", process.pid)
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=_EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_it_answers(
    process: subprocess.Popen[bytes], port: int, folder: Path, *, clock: Clock
) -> None:
    deadline_ns = clock.monotonic_ns() + int(_START_TIMEOUT_S * NS_PER_S)
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        ended = process.poll() is not None
        if ended or clock.monotonic_ns() > deadline_ns:
            what = "ended" if ended else f"did not answer in {_START_TIMEOUT_S:.0f} s"
            msg = f"the Spark Connect server {what}: {log_tail(folder)}"
            raise SparkError(msg)
        clock.sleep(_POLL_DELAY_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
