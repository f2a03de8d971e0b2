"""What a JVM and its Python workers use: CPU seconds and memory, sampled over time.

CPU seconds per million rows tell a slower engine from a busy neighbour, which rows per
second do not. So that each micro-batch has its own figure, the sums are sampled and
read off at the times micro-batches ended.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil

from harness.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from datetime import datetime

# Each sample reads half a dozen processes, on the machine that is measured.
INTERVAL_S = 0.2
# Asking what processes share costs milliseconds each: only every so many samples.
_MEMORY_EVERY = 10
# Looking for children reads every process of the machine: milliseconds as well.
_CHILDREN_EVERY = 5


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
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._jvm is not None:
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
        number = len(samples.at_s)
        cpu_s, jvm_rss = _read(jvm)
        with_memory = last or number % _MEMORY_EVERY == 0
        if last or number % _CHILDREN_EVERY == 0:
            self._workers = jvm.children(recursive=True)
        python_memory = self._here.memory_full_info().pss if with_memory else 0
        for worker in self._workers:
            try:
                worker_cpu_s, _ = _read(worker)
                if with_memory:
                    python_memory += worker.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue  # ended meanwhile: its parent has its CPU time now
            cpu_s += worker_cpu_s
        samples.at_s.append(self._clock.now().timestamp())
        # A worker that ends between two readings is missing from one of them.
        so_far = samples.cpu_s[-1] if samples.cpu_s else 0.0
        samples.cpu_s.append(max(so_far, cpu_s))
        samples.jvm_rss = max(samples.jvm_rss, jvm_rss)
        samples.python_memory = max(samples.python_memory, python_memory)


def _read(process: psutil.Process) -> tuple[float, int]:
    with process.oneshot():
        times = process.cpu_times()
        cpu_s = times.user + times.system
        # Children that ended and were waited for; those that live are read alone.
        cpu_s += times.children_user + times.children_system
        return cpu_s, process.memory_info().rss
