"""How large should a pool be for a given number of threads?"""

from __future__ import annotations

import pytest

THREADS = 32


@pytest.mark.benchmark(group="pool-size")
@pytest.mark.parametrize("size", [2, 4, 8, 16, 32], ids="pool={:02d}".format)
def test_lookup_from_pool_of(size, make_pool, seeded_table, measure_workload, sized):
    """Closed loop, 32 threads: a larger pool moves the wait, it does not remove it.

    What a smaller pool adds in checkout wait, a larger one adds in service time,
    once the server has more connections than it has processors to serve them.
    """
    from harness.postgres.workloads import PrimaryKeyLookup

    pool = make_pool(kind="psycopg", size_min=size, size_max=size)

    measure_workload(
        PrimaryKeyLookup(pool, seeded_table),
        threads=THREADS,
        duration_s=sized(full=3.0, smoke=0.6),
    )
