"""How much of pgbench's throughput does our client stack reach, in one session?

pgbench -M prepared with 16 clients runs right before and right after each case; the
ratio of throughputs is `client_stack_efficiency`. Case ids say how Python gets there:
connections held or checked out per operation, a cursor used again or libpq itself
through psycopg.pq, one thread per caller or all callers of a process interleaved in
one thread, how many callers over two processes.
"""

from __future__ import annotations

import pytest

PROCESSES = 2
THREADS = ["held-libpq", "held-cursor", "pool-libpq", "pool-cursor"]
INTERLEAVED = [f"{path}-interleaved" for path in THREADS]
DURATION_S = 2.0


def source_of(path, postgres, *, clients, processes):
    """Return where connections come from; a pool has one for each caller."""
    from harness.postgres.pool import PoolConfig
    from harness.postgres.workloads import Held, Pooled

    if path.startswith("held"):
        return Held(server=postgres)
    size = clients // processes
    return Pooled(server=postgres, config=PoolConfig(size_min=size, size_max=size))


@pytest.mark.benchmark(group="postgres-anchor-point-read")
@pytest.mark.parametrize(
    ("path", "clients"),
    [
        *((path, clients) for path in THREADS for clients in (2, 16)),
        *((path, 16) for path in INTERLEAVED),
    ],
    ids=lambda value: (
        f"path={value}" if isinstance(value, str) else f"clients={value:02d}"
    ),
)
def test_point_read_beside_pgbench(
    path, clients, postgres, pgbench_tables, measure_workload, sized
):
    """One account by its primary key; two callers are what two cores can feed."""
    from harness.postgres.workloads import AccountLookup

    processes = sized(full=PROCESSES, smoke=1)
    workload = AccountLookup(
        source_of(path, postgres, clients=clients, processes=processes),
        pgbench_tables,
        direct="libpq" in path,
    )

    measure_workload(
        workload,
        threads=clients,
        processes=processes,
        interleaved=path.endswith("interleaved"),
        duration_s=sized(full=DURATION_S, smoke=0.2),
        beside="select-only",
    )


@pytest.mark.benchmark(group="postgres-anchor-tpcb")
@pytest.mark.parametrize("path", [*THREADS, *INTERLEAVED], ids="path={}".format)
def test_tpcb_beside_pgbench(path, postgres, pgbench_tables, measure_workload, sized):
    """Five statements in a transaction, 16 callers: seven round trips each."""
    from harness.postgres.workloads import TpcB

    processes = sized(full=PROCESSES, smoke=1)
    workload = TpcB(
        source_of(path, postgres, clients=16, processes=processes),
        pgbench_tables,
        direct="libpq" in path,
    )

    measure_workload(
        workload,
        threads=16,
        processes=processes,
        interleaved=path.endswith("interleaved"),
        duration_s=sized(full=DURATION_S, smoke=0.2),
        beside="tpcb-like",
    )
