"""What does a transaction of five statements cost, and what does a pipeline save?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="postgres-tpcb")
@pytest.mark.parametrize("sent", ["singly", "pipelined"], ids="sent={}".format)
def test_tpcb_transaction(sent, postgres, pgbench_tables, measure_workload, sized):
    """Closed loop, 8 callers in 2 processes, balances checked at the end.

    Sent singly, a transaction waits for seven answers; in a pipeline for one.
    """
    from harness.postgres.workloads import Held, TpcB

    workload = TpcB(
        Held(server=postgres), pgbench_tables, pipelined=sent == "pipelined"
    )

    measure_workload(
        workload, threads=8, processes=2, duration_s=sized(full=4.0, smoke=0.6)
    )
