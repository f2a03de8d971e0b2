"""The closed loop: each worker starts its next operation when its last one ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.load.plan import GRACE_S, RAW_BUDGET, ClosedPlan
from harness.load.runner import run_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.result import LoadResult
    from harness.load.runner import Spread


def run_closed_loop(
    operation: Callable[..., Any],
    *,
    workers: int,
    processes: int = 1,
    interleaved: bool = False,
    duration_s: float | None = None,
    count: int | None = None,
    think_time_s: float = 0.0,
    warmup_s: float = 0.0,
    warmup_count: int = 0,
    process_setup: Callable[[], Any] | None = None,
    process_teardown: Callable[[Any], object] | None = None,
    setup: Callable[[int], Any] | None = None,
    teardown: Callable[[Any], object] | None = None,
    seed: int = 1,
    grace_s: float = GRACE_S,
    raw_budget: int = RAW_BUDGET,
    spread: Spread | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> LoadResult:
    """Run *operation* from *workers* callers, each as fast as it is answered.

    A closed loop waits for a slow answer before it asks again, so it measures what
    an operation costs under this many callers, not what callers who arrive on their
    own schedule would wait.

    Args:
        operation: Called with its worker's `OperationContext`. A coroutine function
            runs in an event loop instead of threads. An exception it raises is
            recorded as a failed operation by class name.
        workers: Callers over all processes; they start together.
        processes: Processes to spread them over. With more than one, everything
            given here must be picklable, and *clock* is the system's.
        interleaved: Run all workers of a process in one thread, each until it waits
            for its server; needs an operation that waits through `Hub.wait`, as the
            workloads on Postgres do. Many connections then cost no hand-over of the
            interpreter lock. Linux only.
        duration_s: Length of the measured phase in seconds: no operation starts
            after it. Give either this or *count*.
        count: Measured operations in all, shared by the workers.
        think_time_s: Pause of a worker between two operations, in seconds.
        warmup_s: Seconds before measuring; operations started in them are kept
            apart in `LoadResult.warmup`.
        warmup_count: Operations per worker before measuring. Measuring starts for
            everyone together, when the last worker has done its warm-up.
        process_setup: Called once in each process; what it returns is
            `OperationContext.shared`, say a pool.
        process_teardown: Called once in each process with that, at the end.
        setup: Called for each worker with its index before the run starts; what it
            returns is `OperationContext.state`, say a connection.
        teardown: Called for each worker with that state after the run.
        seed: Seed of `OperationContext.random`.
        grace_s: Longest wait, in seconds, for operations still running at the end.
        raw_budget: Samples kept one by one per process; a longer run keeps
            histograms only.
        spread: Where the processes run, as the fixture `spread_load` says; None is
            this machine.
        clock: Where the time comes from.

    Returns:
        Every operation accounted for. Ctrl-C ends the run early and returns what was
        measured, with `interrupted` set.

    Raises:
        ConfigError: If an argument is impossible; nothing has been started.
        LoadError: If a worker process died; the message names it.
        BaseException: What a set-up or tear-down raised.
    """
    plan = ClosedPlan(
        operation=operation,
        workers=workers,
        processes=processes,
        interleaved=interleaved,
        duration_s=duration_s,
        count=count,
        think_time_s=think_time_s,
        warmup_s=warmup_s,
        warmup_count=warmup_count,
        process_setup=process_setup,
        process_teardown=process_teardown,
        setup=setup,
        teardown=teardown,
        seed=seed,
        grace_s=grace_s,
        raw_budget=raw_budget,
    )
    return run_plan(plan, clock=clock, spread=spread)
