"""Picking the workers of an open loop from what one operation was seen to take."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S
from harness.errors import LoadError

if TYPE_CHECKING:
    from harness.clock import Clock
    from harness.load.calibration import Crewing
    from harness.load.plan import OpenPlan

# One caller alone for this long: what an operation takes when nothing waits.
PROBE_S = 0.5
PROBE_WARMUP_COUNT = 5


def crewed(plan: OpenPlan, *, clock: Clock) -> tuple[OpenPlan, str]:
    """Return the plan with workers and processes picked, and why these.

    The operation is run by one caller for half a second first. Only the number of
    processes is limited by what can be sent to another process.

    Raises:
        LoadError: If no operation of that probe completed.
    """
    from harness.load.calibration import calibrated, pick_workers

    seen = _probe(plan, clock=clock)
    picked = pick_workers(
        rate_per_s=plan.schedule.rate_per_s_max,
        service_time_s=seen[0],
        client_cpu_s=min(seen),
        calibration=calibrated(),
    )
    return _fitted(plan, picked)


def _probe(plan: OpenPlan, *, clock: Clock) -> tuple[float, float]:
    """Return what an operation takes and what CPU it costs here, in seconds."""
    from harness.load.closed_loop import run_closed_loop

    result = run_closed_loop(
        plan.operation,
        workers=1,
        duration_s=PROBE_S,
        warmup_count=PROBE_WARMUP_COUNT,
        process_setup=plan.process_setup,
        process_teardown=plan.process_teardown,
        setup=plan.setup,
        teardown=plan.teardown,
        seed=plan.seed,
        clock=clock,
    )
    if not result.completed:
        cause = next(iter(result.examples.values()), None)
        msg = f"workers cannot be picked: no operation of a probe completed: {cause}"
        raise LoadError(msg)
    service_s = float(result.samples.response_time_ns.mean()) / NS_PER_S
    cpu_s = result.generator_cpu_ns / NS_PER_S / result.completed
    return service_s, cpu_s


def _fitted(plan: OpenPlan, picked: Crewing) -> tuple[OpenPlan, str]:
    """Put the pick into the plan, in one process where it can be in no other."""
    processes, reason = picked.processes, picked.reason
    if processes > 1:
        try:
            pickle.dumps(plan)
        except Exception as error:  # noqa: BLE001  # pickle raises what objects raise
            processes = 1
            reason += f"; but in one process: the operation cannot be sent ({error})"
    return replace(plan, workers=picked.workers, processes=processes), reason
