"""The closed loop: each worker starts its next operation when its last one ended."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError
from harness.load.result import LoadResult
from harness.load.samples import NO_ERROR, SampleLog, SampleRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How long an operation may still run after the end of the run, before its worker
# is given up and the operation counted as unfinished.
GRACE_S = 60.0


class OperationContext:
    """What an operation may use: its worker's state, random source and clock mark.

    Attributes:
        worker: Index of the worker, from 0.
        state: What *setup* returned for this worker.
        random: Seeded from the run's seed and the worker index.
    """

    __slots__ = ("_acquired_ns", "_now", "random", "state", "worker")

    def __init__(
        self, *, worker: int, state: Any, seed: int, now: Callable[[], int]
    ) -> None:
        self.worker = worker
        self.state = state
        # Not for secrets: reproducible keys are the point.
        self.random = random.Random(f"{seed}/{worker}")  # noqa: S311
        self._now = now
        self._acquired_ns = 0

    def acquired(self) -> None:
        """Mark the moment the operation got its connection."""
        self._acquired_ns = self._now()


@dataclass(slots=True)
class _Worker:
    """One thread's share of the run."""

    index: int
    warmup: SampleRecorder = field(default_factory=SampleRecorder)
    measured: SampleRecorder = field(default_factory=SampleRecorder)
    thread: threading.Thread = field(default_factory=threading.Thread)
    in_operation: bool = False


class _Run:
    """One run: the plan, the meeting points and what the workers share."""

    def __init__(
        self,
        operation: Callable[[OperationContext], object],
        *,
        workers: int,
        tickets: Iterator[int],
        warmup_count: int,
        setup: Callable[[int], Any] | None,
        teardown: Callable[[Any], object] | None,
        seed: int,
        clock: Clock,
    ) -> None:
        self.operation = operation
        self.tickets = tickets
        self.warmup_count = warmup_count
        self.setup = setup
        self.teardown = teardown
        self.seed = seed
        self.clock = clock
        self.crew = [_Worker(index=index) for index in range(workers)]
        self.examples: dict[str, BaseException] = {}
        self.fatal: list[BaseException] = []
        self.measure_from_ns = 0
        self.deadline_ns: int | None = None
        self._stop = threading.Event()
        # One more party than workers: the caller, who sets the times in between.
        self.ready = threading.Barrier(workers + 1)
        self.go = threading.Barrier(workers + 1)

    def start_threads(self) -> None:
        """Start the workers; each waits at `ready` once it is set up and warm."""
        for worker in self.crew:
            # Daemon: a worker stuck in an operation must not keep the process alive.
            worker.thread = threading.Thread(
                target=self._body, args=(worker,), name=f"load-{worker.index}"
            )
            worker.thread.daemon = True
            worker.thread.start()

    def abort(self) -> None:
        """Let no further operation start and nobody wait for anybody."""
        self._stop.set()
        self.ready.abort()
        self.go.abort()

    def join(self, *, grace_s: float) -> None:
        """Wait for the workers; give up on those that overstay by *grace_s*."""
        for worker in self.crew:
            # In short steps, so that Ctrl-C is heard on every platform.
            while worker.thread.is_alive():
                worker.thread.join(timeout=0.2)
                if self.deadline_ns is None:
                    continue
                overstayed_ns = self.clock.monotonic_ns() - self.deadline_ns
                if overstayed_ns > grace_s * NS_PER_S:
                    self._stop.set()
                    break

    def _body(self, worker: _Worker) -> None:
        """Do one worker's whole part, in its own thread."""
        try:
            state = self.setup(worker.index) if self.setup is not None else None
            try:
                self._operate(worker, state)
            finally:
                if self.teardown is not None:
                    self.teardown(state)
        except threading.BrokenBarrierError:
            # Another worker failed or the caller was interrupted; that error is
            # the one to show.
            return
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            self.fatal.append(error)
            self.abort()

    def _operate(self, worker: _Worker, state: Any) -> None:
        """Warm up, meet the others, then start operations until time or count is up."""
        now = self.clock.monotonic_ns
        context = OperationContext(
            worker=worker.index, state=state, seed=self.seed, now=now
        )
        for _ in range(self.warmup_count):
            self._once(worker, worker.warmup, context)
        self.ready.wait()
        self.go.wait()
        stopped, measure_from_ns = self._stop.is_set, self.measure_from_ns
        deadline_ns = self.deadline_ns
        while not stopped() and now() < measure_from_ns:
            self._once(worker, worker.warmup, context)
        # The shared iterator is advanced in C: under the GIL a ticket is taken once.
        for _ in self.tickets:
            if stopped() or (deadline_ns is not None and now() >= deadline_ns):
                return
            self._once(worker, worker.measured, context)

    def _once(
        self, worker: _Worker, recorder: SampleRecorder, context: OperationContext
    ) -> None:
        """Run and record one operation."""
        now = self.clock.monotonic_ns
        context._acquired_ns = 0  # noqa: SLF001  # the engine's side of the context
        code = NO_ERROR
        worker.in_operation = True
        started_ns = now()
        try:
            self.operation(context)
        except Exception as error:  # noqa: BLE001  # recorded: a failure is a result
            finished_ns = now()
            code = recorder.error_code(error)
            self.examples.setdefault(type(error).__name__, error)
        else:
            finished_ns = now()
        worker.in_operation = False
        acquired_ns = context._acquired_ns or started_ns  # noqa: SLF001
        recorder.append(started_ns, started_ns, acquired_ns, finished_ns, code)


def run_closed_loop(
    operation: Callable[[OperationContext], object],
    *,
    workers: int,
    duration_s: float | None = None,
    count: int | None = None,
    warmup_s: float = 0.0,
    warmup_count: int = 0,
    setup: Callable[[int], Any] | None = None,
    teardown: Callable[[Any], object] | None = None,
    seed: int = 1,
    grace_s: float = GRACE_S,
    clock: Clock = SYSTEM_CLOCK,
) -> LoadResult:
    """Run *operation* from *workers* threads, each as fast as it answers.

    A closed loop waits for a slow answer before it asks again, so it measures what
    an operation costs under this many callers, not what callers who arrive on their
    own schedule would wait.

    Args:
        operation: Called with its worker's `OperationContext`. An exception it
            raises is recorded as a failed operation by class name.
        workers: Threads; they start together.
        duration_s: Length of the measured phase in seconds: no operation starts
            after it. Give either this or *count*.
        count: Measured operations in all, shared by the workers.
        warmup_s: Seconds before measuring; operations started in them are kept
            apart in `LoadResult.warmup`.
        warmup_count: Operations per worker before measuring. Measuring starts for
            everyone together, when the last worker has done its warm-up.
        setup: Called in each worker with its index before the run starts; what it
            returns is `OperationContext.state`.
        teardown: Called in each worker with that state after the run.
        seed: Seed of `OperationContext.random`.
        grace_s: Longest wait, in seconds, for operations still running at the end.
        clock: Where the time comes from.

    Returns:
        Every operation accounted for.

    Raises:
        ConfigError: If an argument is impossible; nothing has been started.
        BaseException: What *setup* or *teardown* raised, or a `KeyboardInterrupt`.
    """
    _check(
        workers=workers,
        duration_s=duration_s,
        count=count,
        warmup_s=warmup_s,
        warmup_count=warmup_count,
    )
    run = _Run(
        operation,
        workers=workers,
        tickets=itertools.count() if count is None else iter(range(count)),
        warmup_count=warmup_count,
        setup=setup,
        teardown=teardown,
        seed=seed,
        clock=clock,
    )
    run.start_threads()
    cpu_from_ns = wall_from_ns = 0
    try:
        run.ready.wait()
        cpu_from_ns, wall_from_ns = clock.process_cpu_ns(), clock.monotonic_ns()
        run.measure_from_ns = wall_from_ns + round(warmup_s * NS_PER_S)
        if duration_s is not None:
            run.deadline_ns = run.measure_from_ns + round(duration_s * NS_PER_S)
        run.go.wait()
        run.join(grace_s=grace_s)
    except threading.BrokenBarrierError:
        run.join(grace_s=0.0)
    except BaseException:
        run.abort()
        raise
    if run.fatal:
        raise run.fatal[0]
    # A warm-up by time ran under the same clocks: take its share of the CPU out.
    whole_ns = max(1, clock.monotonic_ns() - wall_from_ns)
    cpu_ns = clock.process_cpu_ns() - cpu_from_ns
    samples = SampleLog.concatenate([w.measured.log(worker=w.index) for w in run.crew])
    last_ns = int(samples.finished_ns.max()) if len(samples) else clock.monotonic_ns()
    wall_ns = max(0, last_ns - run.measure_from_ns)
    return LoadResult(
        loop="closed",
        workers=workers,
        samples=samples,
        warmup=SampleLog.concatenate(
            [w.warmup.log(worker=w.index) for w in run.crew],
        ),
        wall_ns=wall_ns,
        generator_cpu_ns=round(cpu_ns * min(1.0, wall_ns / whole_ns)),
        unfinished=sum(worker.in_operation for worker in run.crew),
        examples=run.examples,
    )


def _check(
    *,
    workers: int,
    duration_s: float | None,
    count: int | None,
    warmup_s: float,
    warmup_count: int,
) -> None:
    if workers < 1:
        msg = f"workers must be >= 1, got {workers}"
        raise ConfigError(msg)
    if (duration_s is None) == (count is None):
        msg = f"give either duration_s or count, got {duration_s=} and {count=}"
        raise ConfigError(msg)
    if duration_s is not None and duration_s <= 0:
        msg = f"duration_s must be > 0, got {duration_s}"
        raise ConfigError(msg)
    if count is not None and count < 1:
        msg = f"count must be >= 1, got {count}"
        raise ConfigError(msg)
    if warmup_s < 0 or warmup_count < 0:
        msg = f"warm-up must be >= 0, got {warmup_s=} and {warmup_count=}"
        raise ConfigError(msg)
