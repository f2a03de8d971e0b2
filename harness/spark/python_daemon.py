"""The process that all Python workers are forked from, with what they import in it.

Spark starts a daemon for each kind of worker, and one process for each streaming
source. With nothing imported, each worker spends a second on pandas and pyarrow, and
holds a copy of them. So the first daemon of a JVM imports all that any of them needs,
and the others ask it, over a socket in the session's folder, to fork them: their pages
are shared. What Spark started then only waits for the fork to end, as `cat`; its
standard input, output, environment, module path and folder are the fork's.

A process with threads must not be forked, which is why pyspark imports late. The two
libraries that start threads when they are imported are told not to: see `ENVIRONMENT`.
Where one does all the same, pyspark's own daemons take over.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

MODULE = "harness.spark.python_daemon"
# For the JVM, from which the daemons inherit it.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # Of the process that is forked, and so of all: RDDs are partitioned by it.
    "PYTHONHASHSEED": "0",
}
ONCE = "--once"
_STANDARD = (0, 1, 2)
_LENGTH = struct.Struct("!I")
_CAT = "/bin/cat"

# What Spark is told to be Python: it starts planners with the daemon of pyspark, and
# streaming sources with none.
_LAUNCHER = """\
#!/bin/sh
# Each JVM has a parent of its own: executors must not outlive each other's files.
socket={folder}/python-$PPID.socket
case "$1 $2" in
"-m {module}" | "-m pyspark.daemon") exec {python} -m {module} "$socket" "$3" ;;
"-m pyspark."*) exec {python} -m {module} "$socket" "$2" {once} ;;
esac
exec {python} "$@"
"""


def write_launcher(folder: Path, *, python: str = sys.executable) -> Path:
    """Write the program that starts Spark's Python; return its path.

    Args:
        folder: Only this user's, and removed by the caller; the socket is there too.
        python: What starts the interpreter.
    """
    path = folder / "python"
    text = _LAUNCHER.format(
        folder=shlex.quote(str(folder)),
        python=shlex.quote(python),
        module=MODULE,
        once=ONCE,
    )
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    return path


def main(address: str, worker_module: str, *, once: bool = False) -> None:
    """Have a worker's daemon forked; the first that is asked for forks the others.

    Args:
        address: Path of the socket where forks are asked for.
        worker_module: Module of the workers.
        once: Whether it is one worker, with no daemon.
    """
    listening = None
    # Two that start at once must not both be the first.
    with Path(f"{address}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = _connect(address)
        if connection is None and not once:
            listening = _listen(address)
    if connection is not None and _is_forked(connection, worker_module, once=once):
        _wait_for_end(connection)
    if listening is not None:
        from harness.spark.python_parent import serve

        serve(listening, worker_module)
    run_alone(worker_module, once=once)


def run_alone(worker_module: str, *, once: bool) -> NoReturn:
    """Become what pyspark would have started."""
    modules = [worker_module] if once else ["pyspark.daemon", worker_module]
    os.execv(sys.executable, [sys.executable, "-m", *modules])  # noqa: S606 - ourselves


def receive_request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what is to be forked, and its standard files.

    Raises:
        EOFError: If who asked has ended.
    """
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, len(_STANDARD))
    if len(head) < _LENGTH.size or len(files) < len(_STANDARD):
        for each in files:
            os.close(each)
        raise EOFError
    with connection.makefile("rb") as stream:
        request: dict[str, Any] = json.loads(stream.read(_LENGTH.unpack(head)[0]))
    return request, files


def _connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _listen(address: str) -> socket.socket:
    with suppress(FileNotFoundError):
        Path(address).unlink()  # of one that has ended
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(128)
    return listening


def _is_forked(connection: socket.socket, worker_module: str, *, once: bool) -> bool:
    """Ask for a fork; return whether there is one, which answers itself."""
    request = {
        "module": worker_module,
        "once": once,
        "environment": dict(os.environ),
        "path": sys.path,
        "folder": str(Path.cwd()),
    }
    sent = json.dumps(request).encode()
    try:
        socket.send_fds(connection, [_LENGTH.pack(len(sent))], _STANDARD)
        connection.sendall(sent)
        return connection.recv(1) != b""
    except (BrokenPipeError, ConnectionResetError):
        return False


def _wait_for_end(connection: socket.socket) -> NoReturn:
    """Become as small a process as there is, which ends when the fork does."""
    # As pyspark's daemons: an interrupt from the terminal is not for them.
    with suppress(PermissionError):
        os.setpgid(0, 0)
    os.dup2(connection.fileno(), 0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nothing, output)
    if Path(_CAT).exists():
        os.execv(_CAT, [_CAT])  # noqa: S606 - the system's
    connection.recv(1)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], once=ONCE in sys.argv[3:])
