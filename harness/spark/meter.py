"""What a JVM and its Python workers use: CPU seconds and memory, sampled over time.

CPU seconds per million rows tell a slower engine from a busy neighbour, which rows per
second do not. So that each micro-batch has its own figure, the sums are sampled and
read off at the times micro-batches ended.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

# Each sample reads half a dozen processes, on the machine that is measured.
INTERVAL_S = 0.2
# Looking for new workers reads every process of the machine, and asking what processes
# share walks their pages: milliseconds each. So both are done again only once they
# have taken this share of the time; and no more often than every so many seconds.
_SHARE_MAX = 0.005
_CHILDREN_INTERVAL_S = 1.0
_MEMORY_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Samples of a run, in the order they were taken.

    Attributes:
        at_s: When, in seconds since 1970.
        cpu_s: CPU time of the JVM and its workers until then, in seconds.
        jvm_rss_peak_bytes: Most memory the JVM held.
        python_peak_bytes: Most memory its Python workers and this process held
            together; what several of them share is counted once (PSS).
    """

    at_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    jvm_rss_peak_bytes: int
    python_peak_bytes: int

    @property
    def total_cpu_s(self) -> float:
        """CPU time of the whole run, in seconds."""
        return self.cpu_s[-1] - self.cpu_s[0]

    def cpu_between_s(self, start: datetime, end: datetime) -> float:
        """Return the CPU time between two moments, read off between samples."""
        first, last = np.interp(
            [start.timestamp(), end.timestamp()], self.at_s, self.cpu_s
        )
        return float(last - first)


@dataclass
class _Samples:
    at_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    jvm_rss: int = 0
    python_memory: int = 0


class Seldom:
    """Says when something is due again that costs time where time is measured.

    Args:
        interval_s: No more often than that, in seconds.
        clock: Measures how long it takes.
    """

    def __init__(self, interval_s: float, clock: Clock) -> None:
        self._interval_ns = int(interval_s * NS_PER_S)
        self._clock = clock
        self._due_ns = clock.monotonic_ns()

    def put_off(self) -> None:
        """Do it only once the interval has passed."""
        self._due_ns = self._clock.monotonic_ns() + self._interval_ns

    def is_due(self) -> bool:
        """Say whether it may be done now."""
        return self._clock.monotonic_ns() >= self._due_ns

    @contextmanager
    def doing(self) -> Iterator[None]:
        """Do it, in a `with` block."""
        begun_ns = self._clock.monotonic_ns()
        yield
        ended_ns = self._clock.monotonic_ns()
        took_ns = ended_ns - begun_ns
        self._due_ns = ended_ns + max(self._interval_ns, int(took_ns / _SHARE_MAX))


class Meter:
    """Samples a JVM in a thread of its own, from `with` to its end.

    Args:
        jvm_pid: The JVM; None measures nothing.
        clock: When samples were taken, in the time micro-batches are noted in.
    """

    def __init__(self, jvm_pid: int | None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._jvm = psutil.Process(jvm_pid) if jvm_pid is not None else None
        self._here = psutil.Process()
        self._clock = clock
        self._done = threading.Event()
        self._samples = _Samples()
        self._workers: list[psutil.Process] = []
        self._children = Seldom(_CHILDREN_INTERVAL_S, clock)
        self._memory = Seldom(_MEMORY_INTERVAL_S, clock)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._jvm is not None:
            _let_go_of_proofs()
            # What is held before anything runs is not the peak; the end is asked for.
            self._memory.put_off()
            self._sample(self._jvm)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._jvm is not None:
            self._thread.join()
            self._sample(self._jvm, last=True)

    @property
    def usage(self) -> Usage | None:
        """What was used; None if nothing was measured."""
        if self._jvm is None:
            return None
        return Usage(
            at_s=tuple(self._samples.at_s),
            cpu_s=tuple(self._samples.cpu_s),
            jvm_rss_peak_bytes=self._samples.jvm_rss,
            python_peak_bytes=self._samples.python_memory,
        )

    def _watch(self) -> None:
        assert self._jvm is not None  # noqa: S101 - only started with one
        while not self._done.wait(INTERVAL_S):
            self._sample(self._jvm)

    def _sample(self, jvm: psutil.Process, *, last: bool = False) -> None:
        samples = self._samples
        if last or self._children.is_due():
            with self._children.doing():
                self._workers = jvm.children(recursive=True)
        cpu_s, jvm_rss = _read(jvm)
        for worker in self._workers:
            with suppress(psutil.NoSuchProcess):  # its parent has its CPU time now
                cpu_s += _read(worker)[0]
        samples.at_s.append(self._clock.now().timestamp())
        # A worker that ends between two readings is missing from one of them.
        so_far = samples.cpu_s[-1] if samples.cpu_s else 0.0
        samples.cpu_s.append(max(so_far, cpu_s))
        samples.jvm_rss = max(samples.jvm_rss, jvm_rss)
        if last or self._memory.is_due():
            with self._memory.doing():
                held = _shared_out([self._here, *self._workers], but=jvm.name())
            samples.python_memory = max(samples.python_memory, held)


def _let_go_of_proofs() -> None:
    """Give back what pyarrow keeps of tables that runs before were proved with.

    It keeps them for tables to come: tens of megabytes after some millions of rows.
    """
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.default_memory_pool().release_unused()


def _read(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        cpu_s = times.user + times.system
        # Children that ended and were waited for; those that live are read alone.
        cpu_s += times.children_user + times.children_system
        return cpu_s, process.memory_info().rss


def _shared_out(processes: Iterable[psutil.Process], *, but: str) -> int:
    """Return what processes hold together, in bytes, shared pages counted once.

    Args:
        processes: Those that are asked, where they live.
        but: Name of those that do not count: JVMs below ours, which are executors.
    """
    held = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.name() != but:
                held += process.memory_full_info().pss
    return held
