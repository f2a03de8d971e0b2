"""The keeper: a small process that outlives ours just long enough to clean up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Longer than all the patience of the keeper's own steps.
CLOSE_TIMEOUT_S = 60.0


class Keeper:
    """Starts a server on our behalf, and ends it when our process ends.

    It runs in a session of its own, so Ctrl-C at the terminal reaches only us;
    when we close, crash or are killed, the pipe between us breaks, and it stops
    the server and removes what it was told about.

    Args:
        environment: All the environment variables it and its children get.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._owner_pid = os.getpid()
        self._folders: list[Path] = []
        script = Path(__file__).with_name("keeper_process.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            # Isolated and without site-packages: it needs neither, and starts faster.
            [sys.executable, "-I", "-S", str(script), str(self._owner_pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Process id of the keeper."""
        return self._process.pid

    def make_folder(self, parent: str, prefix: str) -> Path:
        """Make a folder that is removed at the end.

        Raises:
            OSError: It cannot be made there.
        """
        answer = self._ask(do="make_folder", parent=parent, prefix=prefix)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["strerror"], parent)
        folder = Path(answer["folder"])
        self._folders.append(folder)
        return folder

    def run(self, argv: Sequence[str], *, log: Path, account: Mapping[str, Any]) -> int:
        """Run a command to its end; return its exit code.

        Args:
            argv: The command.
            log: File its output is appended to.
            account: Keyword arguments of `Popen` that choose the user.
        """
        answer = self._ask(do="run", argv=list(argv), log=str(log), account=account)
        return int(answer["returncode"])

    def start(
        self, argv: Sequence[str], *, log: Path, account: Mapping[str, Any]
    ) -> int:
        """Start a server that is stopped at the end; return its process id."""
        answer = self._ask(do="start", argv=list(argv), log=str(log), account=account)
        return int(answer["pid"])

    def returncode(self) -> int | None:
        """Exit code of the server, or None while it runs."""
        code = self._ask(do="poll")["returncode"]
        return None if code is None else int(code)

    def keep_container(self, name: str, *, engine: str) -> None:
        """Remove the container *name* of the Docker engine *engine* at the end."""
        self._ask(do="keep_container", name=name, engine=engine)

    def close(self) -> None:
        """Stop and remove everything, and wait until that is done."""
        if os.getpid() != self._owner_pid:
            return  # a forked child must not stop its parent's server
        if self._process.stdin is not None and not self._process.stdin.closed:
            # Nothing is buffered: every request is flushed.
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            msg = f"the Postgres keeper (pid {self.pid}) did not end; stop it by hand"
            raise TargetError(msg) from None
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            # Its work already, unless it was killed itself.
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - we asked for pipes
        assert self._process.stdout is not None  # noqa: S101
        line = ""
        with suppress(OSError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            msg = f"the Postgres keeper (pid {self.pid}) is gone; run again"
            raise TargetError(msg)
        answer: dict[str, Any] = json.loads(line)
        if "failure" in answer:
            raise TargetError(answer["failure"])
        return answer
