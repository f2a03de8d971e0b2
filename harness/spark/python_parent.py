"""Forks Spark's Python workers as `python_daemon` asks, until its own input ends."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.spark.python_daemon import receive_request

if TYPE_CHECKING:
    from collections.abc import Callable

IMPORTED = (
    "pandas",
    "pyarrow",
    "pyspark.worker",
    "pyspark.sql.worker.create_data_source",
    "pyspark.sql.worker.lookup_data_sources",
    "pyspark.sql.worker.plan_data_source_read",
    "harness.load.schedules",
    "harness.spark.feed",
    "harness.spark.feed_source",
    "harness.spark.datasets",
    "pyspark.daemon",
    "encodings.idna",
)
_POLL_MS = 1000


def serve(listening: socket.socket, worker_module: str) -> None:
    """Fork the daemon that was asked for first, then those others ask for.

    Ends the process when the JVM has ended or lets go of this daemon; forks live as
    long as their own input. Returns where there are threads: nothing may be forked.
    """
    with suppress(PermissionError):
        os.setpgid(0, 0)
    for name in IMPORTED:
        importlib.import_module(name)
    if threads_count() > 1:
        listening.close()
        return
    # Else the first collection in a fork would write to every page it shares.
    gc.collect()
    gc.freeze()
    if os.fork() == 0:
        listening.close()
        _end_with(_run_daemon, worker_module)
    _fork_for_others(listening)


def _fork_for_others(listening: socket.socket) -> NoReturn:
    poller = select.poll()
    poller.register(listening, select.POLLIN)
    # Only whether it is closed: what comes in is for the daemon.
    poller.register(0, 0)
    while True:
        ready = dict(poller.poll(_POLL_MS))
        if 0 in ready:
            sys.exit()
        if listening.fileno() in ready:
            connection, _ = listening.accept()
            _fork(connection, listening)
        # Spark's processes are charged with the CPU time of those that ended.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _fork(connection: socket.socket, listening: socket.socket) -> None:
    try:
        request, files = receive_request(connection)
    except (EOFError, ConnectionResetError, ValueError):
        connection.close()  # who asked has ended, perhaps in the middle
        return
    if os.fork() == 0:
        listening.close()
        _end_with(_become, connection, request, files)
    connection.close()
    for each in files:
        os.close(each)


def _end_with(run: Callable[..., None], *arguments: Any) -> NoReturn:
    """Run what a fork is for and end it, without what its parent does at its end."""
    code: object = None
    try:
        run(*arguments)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter does with the last one
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def _become(
    connection: socket.socket, request: dict[str, Any], files: list[int]
) -> None:
    for number, each in enumerate(files):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[:] = request["path"]
    connection.sendall(b"1")
    if request["once"]:
        _end_when_closed(connection)
        # It has no daemon: it runs as a program of its own.
        sys.argv = [request["module"]]
        sys.modules.pop(request["module"], None)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    else:
        _run_daemon(request["module"])


def _run_daemon(worker_module: str) -> None:
    from pyspark.daemon import manager

    sys.argv = [sys.argv[0], worker_module]
    manager()


def _end_when_closed(connection: socket.socket) -> None:
    """End this process when who asked for it is killed, whatever it is doing."""

    def look(*_: object) -> None:
        with suppress(BlockingIOError):
            if connection.recv(1, socket.MSG_DONTWAIT) == b"":
                os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    # It may have been closed before.
    look()


def threads_count() -> int:
    """Return how many threads there are, those of C libraries included."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        return sum(1 for _ in tasks.iterdir())
    return threading.active_count()
