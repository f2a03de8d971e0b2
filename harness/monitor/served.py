"""The monitor's command in a process of its own, and a crowd that watches it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from harness.errors import TargetError
from harness.monitor.crowd import ALL_WATCH
from harness.settings import child_environment

if TYPE_CHECKING:
    from types import TracebackType

END_TIMEOUT_S = 60.0


class ServedMonitor:
    """`lakegauge monitor serve` on a free port of this machine, until it is left.

    Args:
        folder: The folder of reports it looks at.
        interval_s: Time between two updates, in seconds.
    """

    def __init__(self, folder: Path, *, interval_s: float) -> None:
        command = Path(sys.executable).with_name("lakegauge")
        self._crowd: subprocess.Popen[str] | None = None
        self._server = _started(
            [
                *(str(command), "monitor", "serve", "--port=0"),
                *("--reports", str(folder), f"--interval={interval_s:g}"),
            ]
        )
        try:
            self.url = _line(self._server).split()[0]
            self.process = psutil.Process(self._server.pid)
        except BaseException:
            self.close()
            raise

    @property
    def cpu_s(self) -> float:
        """CPU time of the server so far, in seconds."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    @property
    def memory_mb(self) -> float:
        """Memory of the server that is in use, shared libraries included."""
        return float(self.process.memory_info().rss) / 1e6

    def gather(self, watchers: int) -> None:
        """Let a crowd come; each has had an update when this returns."""
        url = self.url.replace("http://", "ws://", 1).replace(
            "/dashboard", "/ws/live-updates"
        )
        module = "harness.monitor.crowd"
        self._crowd = _started([sys.executable, "-m", module, url, str(watchers)])
        if (said := _line(self._crowd)) != ALL_WATCH:
            msg = f"the crowd that should watch said {said!r}"
            raise TargetError(msg)

    def disperse(self) -> tuple[int, int]:
        """Let the crowd go; return the updates it had, and how many had stayed."""
        if self._crowd is None:
            return 0, 0
        said, _ = self._crowd.communicate("", timeout=END_TIMEOUT_S)
        self._crowd = None
        if (found := re.search(r"(\d+) updates, (\d+) watching", said)) is None:
            msg = f"the crowd that watched said {said!r}"
            raise TargetError(msg)
        return int(found[1]), int(found[2])

    def pause(self) -> None:
        """Stop both processes where they are: nobody watches, at no cost."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        crowd = [psutil.Process(self._crowd.pid)] if self._crowd else []
        return [self.process, *crowd]

    def close(self) -> None:
        """End both processes."""
        for process in (self._crowd, self._server):
            if process is not None:
                process.kill()
                process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603  # commands of our own
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment() | {"PYTHONUNBUFFERED": "1"},
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101  # asked for a pipe above
    line = process.stdout.readline().strip()
    if not line:
        ended = process.wait(END_TIMEOUT_S)
        msg = f"{process.args!r} ended with {ended} before it began"
        raise TargetError(msg)
    return line
