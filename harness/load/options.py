"""What both loops may be told, beside what each of them is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable


class RunOptions(TypedDict, total=False):
    """How a run is set up; what is left out has the default of `Plan`.

    Attributes:
        processes: Processes to spread the workers over; 1 by default. With more than
            one, everything given must be picklable, and the clock is the system's.
        interleaved: Run all workers of a process in one thread, each until it waits
            for its server; needs an operation that waits through `Hub.wait`, as the
            workloads on Postgres do. Many connections then cost no hand-over of the
            interpreter lock. Linux only.
        warmup_s: Seconds before measuring; operations started in them, or due in
            them in an open loop, are kept apart in `LoadResult.warmup`.
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
    """

    processes: int
    interleaved: bool
    warmup_s: float
    process_setup: Callable[[], Any] | None
    process_teardown: Callable[[Any], object] | None
    setup: Callable[[int], Any] | None
    teardown: Callable[[Any], object] | None
    seed: int
    grace_s: float
    raw_budget: int
