"""Worker processes: the same plan, a share each, one start for all.

Python threads of one process share its interpreter lock; past about one core of
client work only further processes make load. They are spawned, not forked: a forked
child would inherit connections and locks that are not its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import pickle
import threading
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_MS, SYSTEM_CLOCK
from harness.errors import ConfigError, LoadError
from harness.load.underway import Elsewhere, LoadNow, LoadWatch, together, underway
from harness.settings.environment import scrubbed_environment

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from harness.load.crew import ShareResult
    from harness.load.plan import Plan

# All start together this long after the last one is ready: long enough for the word
# to reach each of them on a busy machine.
LEAD_NS = 50 * NS_PER_MS
# The figures of a load are of its last second: asked more often, they tell no more.
LOOK_EVERY_NS = 900 * NS_PER_MS


def run_in_processes(plan: Plan) -> list[ShareResult]:
    """Run each share in a process of its own and collect what they bring back.

    Ctrl-C stops every process and returns what was measured until then.

    Raises:
        ConfigError: If the plan cannot be sent to a process.
        LoadError: If a process died; the message names it.
        BaseException: What a set-up or tear-down raised in a process.
    """
    try:
        message = pickle.dumps(plan)
    except Exception as error:  # noqa: BLE001  # pickle raises what objects raise
        msg = (
            f"with processes={plan.processes} the operation and what it uses are sent "
            f"to other processes, and something in it cannot be: {error}. Use "
            "module-level functions or classes, or processes=1"
        )
        raise ConfigError(msg) from None
    crew = [_Process(rank, message) for rank in range(plan.processes)]
    try:
        with scrubbed_environment():
            for process in crew:
                process.start()
        for process in crew:
            process.expect("ready")
        start_ns = SYSTEM_CLOCK.monotonic_ns() + LEAD_NS
        for process in crew:
            process.send(("start", start_ns))
        with underway(_Crews(crew)):
            return _collect(crew)
    finally:
        for process in crew:
            process.end()


def _collect(crew: list[_Process]) -> list[ShareResult]:
    """Wait for every share, in the order in which they end or die."""
    results: dict[int, ShareResult] = {}
    waiting: dict[object, _Process] = {p.connection: p for p in crew}
    interrupted = False
    while waiting:
        try:
            connections = [process.connection for process in waiting.values()]
            for connection in multiprocessing.connection.wait(connections):
                process = waiting[connection]
                if (result := process.take()) is not None:
                    results[process.rank] = result
                    del waiting[connection]
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            for process in waiting.values():
                process.send(("stop", None))
    return [results[process.rank] for process in crew]


class _Crews(Elsewhere):
    """The worker processes, for those who watch: asked while somebody does."""

    def __init__(self, processes: list[_Process]) -> None:
        self._processes = processes
        self._asked_ns: int | None = None

    def look(self) -> LoadNow | None:
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        if self._asked_ns is None or now_ns - self._asked_ns >= LOOK_EVERY_NS:
            self._asked_ns = now_ns
            for process in self._processes:
                process.send(("look", None))
        said = [process.now for process in self._processes]
        return together([now for now in said if now is not None])


class _Process:
    """One worker process, seen from the parent.

    Attributes:
        rank: Its number, from 0.
        connection: To it.
        now: What it last said that it does; None before it was asked.
    """

    def __init__(self, rank: int, message: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self.rank = rank
        self.connection, self._theirs = context.Pipe()
        self.now: LoadNow | None = None
        # Whoever watches asks on a thread of its own.
        self._sending = threading.Lock()
        self._message = message
        self._process: BaseProcess = context.Process(
            target=_share_main,
            args=(self._theirs, rank),
            name=f"load-process-{rank}",
            daemon=True,
        )

    def start(self) -> None:
        self._process.start()
        self._theirs.close()  # so that its death is the end of the stream here
        self.send(self._message)

    def send(self, message: object) -> None:
        # Whoever died says so where its result is expected.
        with self._sending, contextlib.suppress(OSError):
            self.connection.send(message)

    def take(self) -> ShareResult | None:
        """Receive the next message; return the result, if it is that.

        Raises:
            LoadError: If the process died instead.
            BaseException: If the process sent an error.
        """
        kind, content = self._receive(awaited="result")
        if kind == "now":
            self.now = content
            return None
        result: ShareResult = self._checked(kind, content, awaited="result")
        return result

    def expect(self, kind: str) -> Any:
        """Receive the next message.

        Raises:
            LoadError: If the process died instead.
            BaseException: If the process sent an error.
        """
        return self._checked(*self._receive(awaited=kind), awaited=kind)

    def _receive(self, *, awaited: str) -> tuple[str, Any]:
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=5)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"code {code}"
            msg = (
                f"worker process {self.rank} (pid {self._process.pid}) died with "
                f"{how}; its share of the run is lost, so the run is not a result"
            )
            if awaited == "ready":
                msg += (
                    ". It had not begun: its own words are above; a script that starts "
                    'processes must do so under `if __name__ == "__main__":`'
                )
            raise LoadError(msg) from None
        return kind, content

    def _checked(self, kind: str, content: Any, *, awaited: str) -> Any:
        if kind == "error":
            raise content
        if kind != awaited:
            msg = f"worker process {self.rank} sent {kind!r} instead of {awaited!r}"
            raise LoadError(msg)
        return content

    def end(self) -> None:
        """Make sure that the process is gone."""
        with self._sending:
            self.connection.close()
        if self._process.pid is None:
            return
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _share_main(connection: Connection, rank: int) -> None:
    """Run one share; the main function of a worker process."""
    import signal

    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sending = threading.Lock()

    def send(kind: str, content: object) -> None:
        with sending:
            connection.send((kind, content))

    try:
        plan: Plan = pickle.loads(connection.recv())  # noqa: S301  # from our parent
        from harness.load.runner import make_crew

        crew = make_crew(plan, rank=rank, clock=SYSTEM_CLOCK)

        def agree_on_start() -> int:
            send("ready", None)
            _, start_ns = connection.recv()
            listener = threading.Thread(target=listen, daemon=True)
            listener.start()
            return int(start_ns)

        def listen() -> None:
            watch = LoadWatch()
            # The end of the stream means that the parent is gone: stop as well.
            with contextlib.suppress(EOFError, OSError):
                while connection.recv()[0] == "look":
                    send("now", watch.look())
            crew.interrupt()

        with underway(crew):
            result = crew.run(agree_on_start)
        send("result", _picklable(result))
    except BaseException as error:  # noqa: BLE001  # raised in the parent
        with contextlib.suppress(OSError):
            send("error", _picklable_error(error))


def _picklable(result: ShareResult) -> ShareResult:
    examples = {n: _picklable_error(e) for n, e in result.examples.items()}
    result.examples.clear()
    result.examples.update(examples)
    return result


def _picklable_error(error: BaseException) -> BaseException:
    """Return the error, or a `LoadError` with its words where it cannot be sent."""
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever an exception's constructor does
        return LoadError(f"{type(error).__name__}: {error}")
    return copy
