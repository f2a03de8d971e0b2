"""Running a plan: in this process, or spread over several."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.load.async_crew import AsyncCrew
from harness.load.crew import Crew, ShareResult
from harness.load.folding import Folded
from harness.load.injection import slowed
from harness.load.loops import ClosedLoop, OpenLoop
from harness.load.plan import ClosedPlan, OpenPlan, Plan
from harness.load.result import LoadResult
from harness.load.samples import SampleLog
from harness.load.surroundings import watch_surroundings
from harness.load.underway import FAILURES, underway

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.clock import Clock

    # Runs each share of a plan in a place of its own, all at once.
    Spread = Callable[[Plan], Sequence[ShareResult]]


def make_crew(plan: Plan, *, rank: int, clock: Clock) -> Crew:
    """Return the crew that runs process *rank*'s share of the plan."""
    loop: ClosedLoop | OpenLoop
    if isinstance(plan, OpenPlan):
        loop = OpenLoop(plan, rank=rank)
    elif isinstance(plan, ClosedPlan):
        loop = ClosedLoop(plan, rank=rank)
    else:
        msg = f"no loop runs a {type(plan).__name__}"
        raise TypeError(msg)
    return _kind_of(plan)(plan, loop, rank=rank, clock=clock)


def _kind_of(plan: Plan) -> type[Crew]:
    if is_async(plan):
        if plan.interleaved:
            msg = "interleaved=True is for functions: coroutines take turns anyway"
            raise ConfigError(msg)
        return AsyncCrew
    if plan.interleaved:
        from harness.load.interleaved_crew import InterleavedCrew

        return InterleavedCrew
    return Crew


def is_async(plan: Plan) -> bool:
    """Whether the operation is a coroutine function, or an object called as one."""
    operation = plan.operation
    return inspect.iscoroutinefunction(operation) or inspect.iscoroutinefunction(
        getattr(operation, "__call__", None)  # noqa: B004  # its kind, not whether
    )


def run_plan(plan: Plan, *, clock: Clock, spread: Spread | None = None) -> LoadResult:
    """Run a plan and bring back every operation, accounted for.

    Raises:
        LoadError: If a worker process died; it is named.
        BaseException: What a set-up or tear-down raised.
    """
    operation = slowed(plan.operation)
    if operation is not plan.operation:
        plan = replace(plan, operation=operation)
    # Spread, it runs on machines that we cannot watch from here.
    here = clock is SYSTEM_CLOCK and spread is None
    finish = watch_surroundings() if here else None
    shares: Sequence[ShareResult]
    if spread is not None:
        shares = spread(plan)
    elif plan.processes == 1:
        crew = make_crew(plan, rank=0, clock=clock)
        with underway(crew) if clock is SYSTEM_CLOCK else nullcontext():
            shares = [crew.run(clock.monotonic_ns)]
    else:
        from harness.load.processes import run_in_processes

        shares = run_in_processes(plan)
        _note_failures(shares)
    result = merged(plan, shares)
    return replace(result, surroundings=finish()) if finish else result


def _note_failures(shares: Sequence[ShareResult]) -> None:
    """Note what failed in other processes; for each class, its first one stands."""
    for share in shares:
        errors = share.folded.errors if share.folded else share.samples.errors
        for name, count in errors.items():
            if name in share.examples:
                FAILURES.note(share.examples[name], count=count)


def merged(plan: Plan, shares: Sequence[ShareResult]) -> LoadResult:
    """Add up the shares of all processes."""
    folded = None
    if any(share.folded is not None for share in shares):
        folded = Folded.merged(
            [share.folded or Folded.of_share(share.samples, []) for share in shares]
        )
        samples = SampleLog.empty()
    else:
        samples = SampleLog.concatenate([share.samples for share in shares])
    examples: dict[str, BaseException] = {}
    for share in shares:
        examples = {**share.examples, **examples}
    measure_from_ns = min(share.measure_from_ns for share in shares)
    ended_ns = max(share.ended_ns for share in shares)
    open_loop = isinstance(plan, OpenPlan)
    pulses = [share.pulse for share in shares if share.pulse is not None]
    return LoadResult(
        loop="open" if open_loop else "closed",
        workers=plan.workers,
        processes=plan.processes,
        schedule=plan.schedule.describe() if isinstance(plan, OpenPlan) else None,
        samples=samples,
        folded=folded,
        warmup=SampleLog.concatenate([share.warmup for share in shares]),
        measure_from_ns=measure_from_ns,
        wall_ns=max(0, ended_ns - measure_from_ns),
        generator_cpu_ns=sum(share.cpu_ns for share in shares),
        generator_cpu_ns_max=max(share.cpu_ns for share in shares),
        # An arrival in the hands of a worker that never returned was taken.
        dropped=sum(share.untaken for share in shares),
        unfinished=sum(share.unfinished for share in shares),
        examples=examples,
        interrupted=any(share.interrupted for share in shares),
        clock_skew_ns=max(share.clock_skew_ns for share in shares),
        # The slowest one: its operations are in the same figures.
        pulse=max(pulses, key=lambda pulse: pulse.late_ns_p99, default=None),
    )
