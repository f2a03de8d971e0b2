"""The closed loop: each worker starts its next operation when its last one ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.load.plan import ClosedPlan
from harness.load.runner import run_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from harness.load.options import RunOptions
    from harness.load.result import LoadResult
    from harness.load.runner import Spread


def run_closed_loop(
    operation: Callable[..., Any],
    *,
    workers: int,
    duration_s: float | None = None,
    count: int | None = None,
    think_time_s: float = 0.0,
    warmup_count: int = 0,
    spread: Spread | None = None,
    clock: Clock = SYSTEM_CLOCK,
    **options: Unpack[RunOptions],
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
        duration_s: Length of the measured phase in seconds: no operation starts
            after it. Give either this or *count*.
        count: Measured operations in all, shared by the workers.
        think_time_s: Pause of a worker between two operations, in seconds.
        warmup_count: Operations per worker before measuring. Measuring starts for
            everyone together, when the last worker has done its warm-up.
        spread: Where the processes run, as the fixture `spread_load` says; None is
            this machine.
        clock: Where the time comes from.
        **options: Processes, interleaving, warm-up time, set-up and tear-down, seed
            and limits, the same for both loops: see `RunOptions`.

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
        duration_s=duration_s,
        count=count,
        think_time_s=think_time_s,
        warmup_count=warmup_count,
        **options,
    )
    return run_plan(plan, clock=clock, spread=spread)
