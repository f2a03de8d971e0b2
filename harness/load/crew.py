"""A crew of threads: one process's share of a run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock, sharpen_timers
from harness.load.context import OperationContext
from harness.load.folding import Folded
from harness.load.pulse import Pulse, PulseTaker
from harness.load.samples import NO_ERROR, ROW_BYTES, SampleLog, SampleRecorder
from harness.load.underway import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.async_crew import AsyncCrew
    from harness.load.interleaving import Hub
    from harness.load.plan import Plan

# Rows folded at a time once a share is past its raw budget: the fold holds the
# interpreter for about 0.5 ms, which no operation should notice.
FOLD_ROWS = 4096


@dataclass(slots=True)
class Worker:
    """One caller: its records, and where it is."""

    index: int
    raw_limit: int
    warmup: SampleRecorder = field(default_factory=SampleRecorder)
    measured: SampleRecorder = field(default_factory=SampleRecorder)
    overflow: SampleRecorder = field(default_factory=SampleRecorder)
    folded: Folded | None = None
    in_operation: bool = False

    def recorder(self) -> SampleRecorder:
        """Return where the next measured sample goes."""
        if len(self.measured.rows) < self.raw_limit * ROW_BYTES:
            return self.measured
        if len(self.overflow) >= FOLD_ROWS:
            self.fold_overflow()
        return self.overflow

    def fold_overflow(self) -> None:
        """Turn what is past the raw budget into histograms."""
        parts = [Folded.of(self.overflow.log(worker=self.index))]
        if self.folded is not None:
            parts.append(self.folded)
        self.folded = Folded.merged(parts)
        self.overflow = SampleRecorder(codes=self.overflow.codes)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareResult:
    """What one process brings back.

    Attributes:
        samples: Measured operations; empty if they were folded.
        folded: Measured operations as histograms, past the raw budget.
        warmup: Operations that started before measuring.
        measure_from_ns: When measuring began.
        ended_ns: When the last operation finished, or the share gave up.
        cpu_ns: CPU time of the process while the share ran, its warm-up excluded
            in proportion to time.
        untaken: Arrivals that nobody started.
        unfinished: Operations that had not returned.
        examples: The first error of each class.
        interrupted: Whether it was told to stop.
        clock_skew_ns: How far this share's clock may be from the others'; 0 where
            all shares read one clock.
        pulse: How long this process's code waited before it ran; None on a clock
            that is not the system's.
    """

    samples: SampleLog
    folded: Folded | None
    warmup: SampleLog
    measure_from_ns: int
    ended_ns: int
    cpu_ns: int
    untaken: int
    unfinished: int
    examples: dict[str, BaseException]
    interrupted: bool
    clock_skew_ns: int = 0
    pulse: Pulse | None = None


class Loop(Protocol):
    """Decides when a worker starts its next operation."""

    def begin(self, start_ns: int) -> None:
        """Fix the times of the run; called once, before any worker drives."""
        ...

    def drive(self, crew: Crew, worker: Worker, context: OperationContext) -> None:
        """Start operations until the run is over; called in each worker's thread."""
        ...

    async def drive_async(
        self, crew: AsyncCrew, worker: Worker, context: OperationContext
    ) -> None:
        """Do the same as a task of an event loop."""
        ...

    @property
    def measure_from_ns(self) -> int:
        """When measuring begins."""
        ...

    @property
    def end_ns(self) -> int | None:
        """After which no operation starts; None without a time limit."""
        ...

    def untaken(self) -> int:
        """Count the arrivals that nobody started; called once the run is over."""
        ...


class Crew:
    """The threads of one process, their meeting points and what they share."""

    # Whether the workers take turns in one thread, and its pulse with them.
    one_thread = False

    def __init__(self, plan: Plan, loop: Loop, *, rank: int, clock: Clock) -> None:
        self.plan = plan
        self.loop = loop
        self.clock = clock
        self._now = clock.monotonic_ns
        self._operation = _bound(plan.operation)
        indices = plan.workers_of(rank)
        raw_limit = max(1, plan.raw_budget // len(indices))
        self.workers = [Worker(index=i, raw_limit=raw_limit) for i in indices]
        self.examples: dict[str, BaseException] = {}
        self.interrupted = False
        self._fatal: list[BaseException] = []
        self.stopping = False
        # One more party than threads: the caller, who sets the times in between.
        self._ready = threading.Barrier(self.threads_count + 1)
        self._go = threading.Barrier(self.threads_count + 1)
        self._shared: Any = None
        # Where the workers take turns in one thread.
        self.hub: Hub | None = None
        # Another clock's time does not pass by itself: there is no lateness in it.
        self._has_pulse = clock is SYSTEM_CLOCK
        self._pulse_taker: PulseTaker | None = None

    @property
    def threads_count(self) -> int:
        """Threads that run the workers: one each."""
        return len(self.workers)

    def run(self, agree_on_start: Callable[[], int]) -> ShareResult:
        """Run this share from set-up to tear-down.

        Args:
            agree_on_start: Called once every worker is set up and warm; returns the
                time the run starts at, the same for all processes.

        Raises:
            BaseException: What a set-up or tear-down raised, or a
                `KeyboardInterrupt` while setting up.
        """
        plan = self.plan
        if plan.process_setup is not None:
            self._shared = plan.process_setup()
        try:
            return self._run(agree_on_start)
        finally:
            if plan.process_teardown is not None:
                plan.process_teardown(self._shared)

    def interrupt(self) -> None:
        """Let no further operation start; what was measured is kept."""
        self.interrupted = True
        self.stopping = True

    def once(
        self,
        worker: Worker,
        recorder: SampleRecorder,
        context: OperationContext,
        intended_ns: int | None,
    ) -> int:
        """Run and record one operation; return the time it is then.

        Args:
            worker: Who runs it.
            recorder: Where it is recorded.
            context: What it is called with.
            intended_ns: When the schedule said; None in a closed loop.
        """
        now, hub = self._now, self.hub
        turn = hub.turns if hub is not None else 0
        context._acquired_ns = 0  # noqa: SLF001  # the engine's side of the context
        code = NO_ERROR
        worker.in_operation = True
        started_ns = now()
        try:
            self._operation(context)
        except Exception as error:  # noqa: BLE001  # recorded: a failure is a result
            finished_ns = now()
            code = self.failed(recorder, error)
        else:
            finished_ns = now()
        worker.in_operation = False
        recorder.append(
            started_ns if intended_ns is None else intended_ns,
            started_ns,
            context._acquired_ns or started_ns,  # noqa: SLF001  # see above
            finished_ns,
            code,
        )
        if hub is not None and hub.turns == turn:
            # An operation that never waits must not keep the others from running.
            hub.give_way()
            return now()
        return finished_ns

    def failed(self, recorder: SampleRecorder, failure: Exception) -> int:
        """Note what an operation has raised; return the code to record it with."""
        self.examples.setdefault(type(failure).__name__, failure)
        FAILURES.note(failure)
        return recorder.error_code(failure)

    def _run(self, agree_on_start: Callable[[], int]) -> ShareResult:
        threads = self._threads()
        for thread in threads:
            thread.start()
        clock = self.clock
        cpu_from_ns = wall_from_ns = 0
        try:
            self._ready.wait()
            self.loop.begin(agree_on_start())
            cpu_from_ns, wall_from_ns = clock.process_cpu_ns(), clock.monotonic_ns()
            self.take_pulse()
            self._go.wait()
        except threading.BrokenBarrierError:
            pass
        except BaseException:
            self._abort()
            raise
        try:
            self._join(threads)
        except KeyboardInterrupt:
            self.interrupt()
            self._join(threads)
        if self._fatal:
            raise self._fatal[0]
        whole_ns = max(1, clock.monotonic_ns() - wall_from_ns)
        cpu_ns = clock.process_cpu_ns() - cpu_from_ns
        return self._result(cpu_ns=cpu_ns, whole_ns=whole_ns)

    def take_pulse(self) -> None:
        """Watch from now on how late the code of this process runs."""
        if self._has_pulse:
            self._pulse_taker = PulseTaker(one_thread=self.one_thread)

    def _result(self, *, cpu_ns: int, whole_ns: int) -> ShareResult:
        samples = SampleLog.concatenate(
            [w.measured.log(worker=w.index) for w in self.workers]
        )
        folded = None
        if any(w.folded is not None or len(w.overflow) for w in self.workers):
            for worker in self.workers:
                worker.fold_overflow()
            parts = [w.folded for w in self.workers if w.folded is not None]
            folded = Folded.of_share(samples, parts)
            samples = SampleLog.empty()
        measure_from_ns = self.loop.measure_from_ns
        if folded is not None:
            ended_ns = folded.finished_max_ns
        elif len(samples):
            ended_ns = int(samples.finished_ns.max())
        else:
            ended_ns = max(measure_from_ns, self.clock.monotonic_ns())
        measured_share = min(1.0, (ended_ns - measure_from_ns) / whole_ns)
        return ShareResult(
            samples=samples,
            folded=folded,
            warmup=SampleLog.concatenate(
                [w.warmup.log(worker=w.index) for w in self.workers]
            ),
            measure_from_ns=measure_from_ns,
            ended_ns=ended_ns,
            cpu_ns=round(cpu_ns * measured_share),
            untaken=self.loop.untaken(),
            unfinished=sum(worker.in_operation for worker in self.workers),
            examples=self.examples,
            interrupted=self.interrupted,
            pulse=(
                None
                if self._pulse_taker is None
                else self._pulse_taker.finish(measure_from_ns, ended_ns)
            ),
        )

    def _threads(self) -> list[threading.Thread]:
        """Return the threads of this crew, not started; each meets at the barriers."""
        return [
            # Daemon: a worker stuck in an operation must not keep the process alive.
            threading.Thread(
                target=self._body,
                args=(worker,),
                name=f"load-{worker.index}",
                daemon=True,
            )
            for worker in self.workers
        ]

    def _context(self, worker: Worker, state: Any) -> OperationContext:
        """Return what a worker's operations are called with."""
        return OperationContext(
            worker=worker.index,
            state=state,
            shared=self._shared,
            seed=self.plan.seed,
            now=self.clock.monotonic_ns,
        )

    def _body(self, worker: Worker) -> None:
        """Do one worker's whole part, in its own thread."""
        plan = self.plan
        try:
            sharpen_timers()
            state = plan.setup(worker.index) if plan.setup is not None else None
            try:
                context = self._context(worker, state)
                for _ in range(plan.warmup_count):
                    self.once(worker, worker.warmup, context, None)
                self._ready.wait()
                self._go.wait()
                self.loop.drive(self, worker, context)
            finally:
                if plan.teardown is not None:
                    plan.teardown(state)
        except threading.BrokenBarrierError:
            # Another worker failed or the caller was interrupted; that error is
            # the one to show.
            return
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            self._fatal.append(error)
            self._abort()

    def _abort(self) -> None:
        self.stopping = True
        self._ready.abort()
        self._go.abort()

    def _join(self, threads: list[threading.Thread]) -> None:
        """Wait for the workers; give up on those that overstay."""
        grace_ns = round(self.plan.grace_s * NS_PER_S)
        stopped_ns: int | None = None
        for thread in threads:
            # In short steps, so that Ctrl-C is heard on every platform.
            while thread.is_alive():
                thread.join(timeout=0.1)
                now_ns = self.clock.monotonic_ns()
                if self.stopping and stopped_ns is None:
                    stopped_ns = now_ns
                ends = [t for t in (self.loop.end_ns, stopped_ns) if t is not None]
                if ends and now_ns > min(ends) + grace_ns:
                    self.stopping = True
                    break


def _bound(operation: Callable[[OperationContext], Any]) -> Callable[..., Any]:
    """Return what calls *operation* with least ado.

    CPython calls a function of Python from another one without a step through C;
    an object with `__call__` always takes that step.
    """
    call = getattr(type(operation), "__call__", None)  # noqa: B004  # the function
    return MethodType(call, operation) if isinstance(call, FunctionType) else operation
