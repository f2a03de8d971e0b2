"""The open loop: operations start on schedule, whatever became of earlier ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.load.crewing import crewed
from harness.load.plan import OpenPlan
from harness.load.runner import run_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from harness.load.options import RunOptions
    from harness.load.result import LoadResult
    from harness.load.runner import Spread
    from harness.load.schedules import Schedule


def run_open_loop(
    operation: Callable[..., Any],
    schedule: Schedule,
    *,
    workers: int | None = None,
    drain_s: float = 1.0,
    spread: Spread | None = None,
    clock: Clock = SYSTEM_CLOCK,
    **options: Unpack[RunOptions],
) -> LoadResult:
    """Start *operation* at the times of *schedule* and time it from there.

    Response time counts from when an operation *should* have started, so a stall is
    charged to every arrival it delays (no coordinated omission, Tene 2013). Within
    a process all workers share one queue of arrivals: one waits only while every
    worker is busy. That asks what users of the whole service wait, not what users
    bound to one connection do.

    Args:
        operation: See `run_closed_loop`.
        schedule: When operations should start.
        workers: Most operations in flight at once, over all processes. Arrivals that
            find no free worker wait, and their wait is their start delay. None picks
            workers and processes from a calibration and a probe of half a second,
            and says why in `LoadResult.crewing`.
        drain_s: How long after the schedule's end waiting arrivals are still
            started; those left then are counted as dropped.
        spread: See `run_closed_loop`.
        clock: Likewise.
        **options: Processes (each takes every nth arrival), interleaving, warm-up
            time, set-up and tear-down, seed and limits: see `RunOptions`.

    Returns:
        Every arrival accounted for: completed, failed, dropped or unfinished.

    Raises:
        ConfigError: If an argument is impossible; nothing has been started.
        LoadError: If a worker process died; the message names it.
        BaseException: What a set-up or tear-down raised.
    """
    plan = OpenPlan(
        operation=operation,
        schedule=schedule,
        workers=options.get("processes", 1) if workers is None else workers,
        drain_s=drain_s,
        **options,
    )
    if workers is not None:
        return run_plan(plan, clock=clock, spread=spread)
    plan, reason = crewed(plan, clock=clock)
    result = run_plan(plan, clock=clock, spread=spread)
    return replace(result, crewing=reason)
