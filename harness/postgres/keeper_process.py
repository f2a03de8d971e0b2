"""The keeper's own process: a script of the standard library alone.

It takes one request per line on its standard input, each a JSON object, and
answers each with one line. End of input, a signal, or the death of its parent
ends it: it stops the server it started, then removes folders and containers.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT_CHECK_S = 1.0
# Fast shutdown first: it disconnects clients and writes a checkpoint. The data
# is thrown away, so a slow disk may not hold us up for long.
STOP_STEPS = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 5.0))
ENGINE_TIMEOUT_S = 20.0
PR_SET_PDEATHSIG = 1


class Input:
    """Lines from the parent, until it is gone."""

    def __init__(self, parent_pid: int) -> None:
        self._parent_pid = parent_pid
        self._buffer = b""

    def line(self) -> bytes | None:
        """Wait for one line; None means that the parent is gone."""
        while b"\n" not in self._buffer:
            if not self.alive(PARENT_CHECK_S):
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def alive(self, wait_s: float) -> bool:
        """Wait up to *wait_s* for input; False means that the parent is gone.

        A forked child of the parent may hold the pipe open after the parent
        was killed, so the parent itself is looked at too.
        """
        if select.select([0], [], [], wait_s)[0]:
            data = os.read(0, 65536)
            if not data:
                return False
            self._buffer += data
        return os.getppid() == self._parent_pid


class Keep:
    """What has been started and must be ended."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._folders: list[str] = []
        self._containers: list[tuple[str, str]] = []

    def make_folder(self, parent: str, prefix: str) -> dict[str, Any]:
        """Make a folder to be removed at the end."""
        try:
            folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        except OSError as error:
            return {"errno": error.errno, "strerror": error.strerror}
        self._folders.append(folder)
        return {"folder": folder}

    def run(self, argv: list[str], log: str, account: dict[str, Any]) -> dict[str, Any]:
        """Run a command to its end, unless the parent dies first."""
        self.start(argv, log, account)
        while self._process is not None and self._process.poll() is None:
            if not self._source.alive(0.005):
                raise SystemExit
        return self.poll()

    def start(
        self, argv: list[str], log: str, account: dict[str, Any]
    ) -> dict[str, Any]:
        """Start a server."""
        try:
            with open(log, "ab") as output:  # noqa: PTH123 - pathlib is slow to load
                self._process = subprocess.Popen(  # noqa: S603 - from our parent
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    start_new_session=True,
                    # One thread only here, so this is safe.
                    preexec_fn=_end_with_parent,  # noqa: PLW1509
                    **account,
                )
        except (OSError, subprocess.SubprocessError) as error:
            return {"failure": f"cannot start {argv[0]}: {error}"}
        return {"pid": self._process.pid}

    def poll(self) -> dict[str, Any]:
        """Tell whether what was started last still runs."""
        return {"returncode": self._process.poll() if self._process else None}

    def keep_container(self, name: str, engine: str) -> dict[str, Any]:
        """Remember a container to be removed at the end."""
        self._containers.append((name, engine))
        return {}

    def end(self) -> None:
        """Stop and remove everything; one failure does not stop the rest."""
        if self._process is not None:
            for number, patience_s in STOP_STEPS:
                if self._process.poll() is not None:
                    break
                self._process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience_s)
        for name, engine in self._containers:
            with suppress(OSError, http.client.HTTPException):
                remove_container(name, engine)
        for folder in self._folders:
            # Twice: a process that was killed may still have been writing.
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, as Docker speaks it."""

    def __init__(self, path: str, *, timeout_s: float = ENGINE_TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def remove_container(name: str, engine: str) -> None:
    """Remove a container by force; one that is not there is no error."""
    if engine.startswith("unix://"):
        connection = UnixConnection(engine.removeprefix("unix://"))
        connection.request("DELETE", f"/containers/{name}?force=true&v=true")
        connection.getresponse().read()
        connection.close()
        return
    docker = shutil.which("docker")
    if docker is not None:
        subprocess.run(  # noqa: S603 - from our parent
            [docker, "-H", engine, "rm", "--force", "--volumes", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ENGINE_TIMEOUT_S,
            check=False,
        )


def main() -> None:
    """Serve requests until the parent is gone, then clean up."""
    source = Input(parent_pid=int(sys.argv[1]))
    keep = Keep(source)
    requests: dict[str, Callable[..., dict[str, Any]]] = {
        "make_folder": keep.make_folder,
        "run": keep.run,
        "start": keep.start,
        "poll": keep.poll,
        "keep_container": keep.keep_container,
    }
    endings = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in endings:
        signal.signal(number, _exit)
    try:
        while (line := source.line()) is not None:
            request = json.loads(line)
            answer = requests[request.pop("do")](**request)
            os.write(1, json.dumps(answer).encode() + b"\n")
    except BrokenPipeError:
        pass  # the parent died between asking and being answered
    finally:
        for number in endings:
            signal.signal(number, signal.SIG_IGN)
        keep.end()


def _exit(_number: int, _frame: object) -> None:
    raise SystemExit


def _end_with_parent() -> None:
    """Have the kernel stop the server, should this process itself be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


if __name__ == "__main__":
    main()
