"""The two loops: when a worker starts its next operation."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.load.async_crew import AsyncCrew
    from harness.load.context import OperationContext
    from harness.load.crew import Crew, Worker
    from harness.load.plan import ClosedPlan, OpenPlan


class ClosedLoop:
    """The next operation starts when the last one ended, plus the think time."""

    def __init__(self, plan: ClosedPlan, *, rank: int) -> None:
        self._plan = plan
        count = plan.count_of(rank)
        # Advanced in C, so that under the interpreter lock a ticket is taken once.
        self._tickets: Iterator[int] = (
            itertools.count() if count is None else iter(range(count))
        )
        self._warmup_ns = 0
        self.measure_from_ns = 0
        self.end_ns: int | None = None

    def begin(self, start_ns: int) -> None:
        """Fix the times of the run."""
        self._warmup_ns = round(self._plan.warmup_s * NS_PER_S)
        self.measure_from_ns = start_ns + self._warmup_ns
        if self._plan.duration_s is not None:
            length_ns = round(self._plan.duration_s * NS_PER_S)
            self.end_ns = self.measure_from_ns + length_ns

    def drive(self, crew: Crew, worker: Worker, context: OperationContext) -> None:
        """Start operations until time or count is up."""
        clock, once, think_s = crew.clock, crew.once, self._plan.think_time_s
        measure_from_ns, end_ns = self.measure_from_ns, self.end_ns
        # Processes agree on a start that is a moment ahead.
        clock.sleep_until_ns(measure_from_ns - self._warmup_ns)
        while not crew.stopping and clock.monotonic_ns() < measure_from_ns:
            once(worker, worker.warmup, context, None)
            clock.sleep(think_s)
        now_ns = clock.monotonic_ns()
        for _ in self._tickets:
            if crew.stopping or (end_ns is not None and now_ns >= end_ns):
                return
            # Without a pause the next one starts when this one has finished.
            now_ns = once(worker, worker.recorder(), context, None)
            if think_s:
                clock.sleep(think_s)
                now_ns = clock.monotonic_ns()

    async def drive_async(
        self, crew: AsyncCrew, worker: Worker, context: OperationContext
    ) -> None:
        """Start operations until time or count is up; see `drive`."""
        now = crew.clock.monotonic_ns
        think_ns = round(self._plan.think_time_s * NS_PER_S)
        await crew.sleeper.until_ns(self.measure_from_ns - self._warmup_ns)
        while not crew.stopping and now() < self.measure_from_ns:
            await crew.once_async(worker, worker.warmup, context, None)
            await self._pause(crew, think_ns)
        for _ in self._tickets:
            if crew.stopping or (self.end_ns is not None and now() >= self.end_ns):
                return
            await crew.once_async(worker, worker.recorder(), context, None)
            await self._pause(crew, think_ns)

    async def _pause(self, crew: AsyncCrew, think_ns: int) -> None:
        if think_ns:
            await crew.sleeper.until_ns(crew.clock.monotonic_ns() + think_ns)
        else:
            # An operation that never waits must not keep the others from running.
            await asyncio.sleep(0)

    def untaken(self) -> int:
        """Return 0: a closed loop schedules nothing it does not start."""
        return 0


class OpenLoop:
    """Operations start at the times of a schedule; any free worker takes the next.

    All workers of a process share one queue of arrivals, so an arrival waits only
    while *every* worker is busy. Processes split the arrivals in turn (process r of
    n takes every nth), because a counter shared between processes would cost more
    than it is worth.
    """

    def __init__(self, plan: OpenPlan, *, rank: int) -> None:
        self._plan = plan
        self._rank = rank
        self._lock = threading.Lock()
        self._taken = 0
        self._arrivals = self._offsets_ns()
        self._start_ns = 0
        self.measure_from_ns = 0
        self.end_ns: int | None = None

    def begin(self, start_ns: int) -> None:
        """Fix the times of the run."""
        plan = self._plan
        self._start_ns = start_ns
        self.measure_from_ns = start_ns + round(plan.warmup_s * NS_PER_S)
        length_s = plan.schedule.duration_s + plan.drain_s
        self.end_ns = start_ns + round(length_s * NS_PER_S)

    def drive(self, crew: Crew, worker: Worker, context: OperationContext) -> None:
        """Start the arrivals this worker gets, each as near its time as it can."""
        clock = crew.clock
        start_ns, end_ns = self._start_ns, self.end_ns
        warmup_ns = self.measure_from_ns - start_ns
        while True:
            # Nothing is taken once the run is over: what is left was dropped.
            if crew.stopping or (end_ns is not None and clock.monotonic_ns() >= end_ns):
                return
            with self._lock:
                offset_ns = next(self._arrivals, None)
                if offset_ns is None:
                    return
                self._taken += offset_ns >= warmup_ns
            intended_ns = start_ns + offset_ns
            clock.sleep_until_ns(intended_ns)
            warm = offset_ns < warmup_ns
            recorder = worker.warmup if warm else worker.recorder()
            crew.once(worker, recorder, context, intended_ns)

    async def drive_async(
        self, crew: AsyncCrew, worker: Worker, context: OperationContext
    ) -> None:
        """Start the arrivals this task gets; see `drive`."""
        now = crew.clock.monotonic_ns
        start_ns, end_ns = self._start_ns, self.end_ns
        warmup_ns = self.measure_from_ns - start_ns
        while not crew.stopping and (end_ns is None or now() < end_ns):
            # One loop, one thread: nobody takes an arrival in between.
            offset_ns = next(self._arrivals, None)
            if offset_ns is None:
                return
            self._taken += offset_ns >= warmup_ns
            await crew.sleeper.until_ns(start_ns + offset_ns)
            warm = offset_ns < warmup_ns
            recorder = worker.warmup if warm else worker.recorder()
            await crew.once_async(worker, recorder, context, start_ns + offset_ns)

    def untaken(self) -> int:
        """Count this share's measured arrivals that nobody started."""
        warmup_ns = self.measure_from_ns - self._start_ns
        total = sum(offset >= warmup_ns for offset in self._offsets_ns())
        return total - self._taken

    def _offsets_ns(self) -> Iterator[int]:
        """Yield this share's arrivals as offsets from the start of the run."""
        position = self._rank
        step = self._plan.processes
        for chunk in self._plan.schedule.chunks():
            yield from chunk[position::step].tolist()
            position = (position - len(chunk)) % step
