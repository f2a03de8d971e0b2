"""What do callers wait who arrive on their own schedule, as the server fills up?"""

from __future__ import annotations

import pytest

from harness.clock import NS_PER_S
from harness.load import poisson_arrivals, run_closed_loop, run_open_loop
from harness.load.calibration import calibrated, pick_workers

PROCESSES = 2
CALLERS = 8


@pytest.mark.benchmark(group="postgres-open-loop")
@pytest.mark.parametrize("utilization", [25, 50, 75], ids="util={:03d}pct".format)
def test_lookup_response_time(
    utilization, postgres, seeded_table, sized, record_load, spread_load, anchor
):
    """Poisson arrivals at a share of what a closed loop completes right before.

    Workers and processes are picked from the generator's calibration and from what
    one caller alone was seen to take; the record says which and why. pgbench reads
    accounts at the same rate right before, and says how late it starts them.
    """
    from harness.postgres.workloads import Held, PrimaryKeyLookup, Witness

    workload = PrimaryKeyLookup(Held(server=postgres), seeded_table)
    Witness(workload)  # makes the table that workers of other processes sign
    places = {
        "process_setup": workload.process_setup,
        "process_teardown": workload.process_teardown,
        "setup": workload.setup,
        "teardown": workload.teardown,
    }
    alone = run_closed_loop(
        workload, workers=1, duration_s=0.3, warmup_count=20, **places
    )
    full = run_closed_loop(
        workload,
        workers=CALLERS,
        processes=sized(full=PROCESSES, smoke=1),
        duration_s=sized(full=2.0, smoke=0.3),
        warmup_s=0.2,
        **places,
    )
    rate_per_s = full.throughput_per_s * utilization / 100
    crewing = pick_workers(
        rate_per_s=rate_per_s,
        service_time_s=alone.wall_s / alone.completed,
        client_cpu_s=alone.generator_cpu_ns / NS_PER_S / alone.completed,
        calibration=calibrated(),
    )
    pgbench = anchor("select-only", rate_per_s=rate_per_s)
    pgbench.run()
    witness = Witness(workload)

    result = run_open_loop(
        workload,
        poisson_arrivals(
            rate_per_s=rate_per_s, duration_s=sized(full=5.0, smoke=0.6), seed=1
        ),
        workers=crewing.workers,
        processes=crewing.processes,
        warmup_s=sized(full=0.5, smoke=0.1),
        spread=spread_load,
        **places,
    )

    record_load(
        result,
        details={
            "capacity_per_s": round(full.throughput_per_s),
            "arrival_rate_per_s": round(rate_per_s),
            "crewing": crewing.reason,
            **pgbench.details(result.throughput_per_s),
        },
    )
    assert not result.failed, result.examples
    witness.confirm(result)
