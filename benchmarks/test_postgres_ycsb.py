"""How does Postgres serve YCSB's six core workloads?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="postgres-ycsb")
@pytest.mark.parametrize("mix", "ABCDEF", ids="mix={}".format)
def test_ycsb(mix, postgres, usertable, measure_workload, sized):
    """Closed loop, 8 callers in 2 processes, keys by scrambled Zipf or the latest.

    A: half updates. B: 5 % updates. C: reads. D: reads of the latest, 5 % inserts.
    E: short ranges, 5 % inserts. F: half read-modify-write transactions.
    """
    from harness.postgres.workloads import Held, Ycsb

    workload = Ycsb(Held(server=postgres), usertable, mix)

    measure_workload(
        workload,
        threads=8,
        processes=sized(full=2, smoke=1),
        duration_s=sized(full=4.0, smoke=0.6),
    )
