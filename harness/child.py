"""A process of ours beside this one: started, asked over its pipes, and ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any, Self

from harness.errors import TargetError

START_TIMEOUT_S = 30.0
END_TIMEOUT_S = 10.0
TOLD_MAX = 1000


class ChildProcess:
    """A stand-in, a stub or a proxy in a process of its own.

    Its work does not share the interpreter lock with the client under test, and it
    ends when this process does, however that one dies.

    Args:
        module: What `python -m` runs; it must end when its input does.
        config: The first line it reads; secrets go through the pipe only.
        called: What errors call it.

    Attributes:
        ready: The first line it wrote, as soon as it served.
    """

    def __init__(
        self, module: str, config: dict[str, Any], *, called: str | None = None
    ) -> None:
        from harness.settings import child_environment

        self._owner_pid = os.getpid()
        self._called = called or module
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=child_environment(),
            # Ctrl-C is for the tests; the child ends when its input does.
            start_new_session=True,
        )
        try:
            self.ready: dict[str, Any] = self._start(config)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; safe to call twice, and does nothing in a forked child."""
        if os.getpid() != self._owner_pid:
            return
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have the child do something and return its answer.

        Raises:
            TargetError: It is gone, or it refuses.
        """
        request = json.dumps({"do": do, **arguments}).encode() + b"\n"
        stdin, stdout = self._process.stdin, self._process.stdout
        line = b""
        with self._lock, suppress(OSError, ValueError):
            if stdin is not None and stdout is not None:
                stdin.write(request)
                stdin.flush()
                line = stdout.readline()
        if not line:
            msg = f"{self._called} (pid {self.pid}) is gone{self._told()}"
            raise TargetError(msg)
        answer = json.loads(line)["answer"]
        if "failure" in answer:
            raise TargetError(answer["failure"])
        return answer["value"]

    def _start(self, config: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            msg = f"{self._called} has no pipes"
            raise TargetError(msg)
        line = b""
        # When it has ended already, why stands in its output, read below.
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(config).encode() + b"\n")
            stdin.flush()
            if select.select([stdout], [], [], START_TIMEOUT_S)[0]:
                line = stdout.readline()
        if not line:
            msg = (
                f"{self._called} did not start within {START_TIMEOUT_S:g} s"
                f"{self._told()}"
            )
            raise TargetError(msg)
        ready: dict[str, Any] = json.loads(line)
        return ready

    def _told(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        told = self._errors.read().decode("utf-8", "replace").strip()
        return f": {told[-TOLD_MAX:]}" if told else ""
