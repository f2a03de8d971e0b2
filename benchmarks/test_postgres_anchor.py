"""How much of pgbench's throughput does our client stack reach, in one session?

pgbench -M prepared with 16 clients runs right before and right after each case; the
ratio of throughputs is `client_stack_efficiency`. Case ids say how Python gets there:
connections held or checked out per operation, a cursor used again or libpq itself
through psycopg.pq, one thread per caller or all callers of a process interleaved in
one thread, how many callers over two processes. The best way for each kind of work
is held to a share of pgbench; the other cases are recorded to be looked at.
"""

from __future__ import annotations

import statistics

import pytest

from harness.load import run_closed_loop
from harness.load.doubts import OTHERS_CPU, STOLEN_CPU

PROCESSES = 2
CLIENTS = 16
THREADS = ["held-libpq", "held-cursor", "pool-libpq", "pool-cursor"]
INTERLEAVED = [f"{path}-interleaved" for path in THREADS]
DURATION_S = 2.0
# What is done, which way, and the least share of pgbench's throughput.
TARGETS = {
    "read": ("held-libpq-interleaved", 0.65),
    "checkout-and-read": ("pool-libpq-interleaved", 0.5),
    "tpcb": ("held-libpq-interleaved", 0.5),
}
# The median of so many attempts decides; where it misses, of so many more.
ATTEMPTS, MORE_ATTEMPTS = 3, 2


def source_of(path, postgres, *, clients, processes):
    """Return where connections come from; a pool has one for each caller."""
    from harness.postgres.pool import PoolConfig
    from harness.postgres.workloads import Held, Pooled

    if path.startswith("held"):
        return Held(server=postgres)
    size = clients // processes
    return Pooled(server=postgres, config=PoolConfig(size_min=size, size_max=size))


def disturbed(result):
    """Tell whether the machine did much else meanwhile."""
    around = result.surroundings
    return around is not None and (
        around.others > OTHERS_CPU[0] or around.stolen > STOLEN_CPU[0]
    )


def decided(reached):
    """Return whether the machine was calm enough, the median, and whose it is.

    Where enough attempts were not disturbed, the others do not count.
    """
    known = [each for each in reached if each[0] is not None]
    undisturbed = [each for each in known if not disturbed(each[1])]
    calm = len(undisturbed) >= ATTEMPTS
    counted = (undisturbed if calm else known) or reached[:1]
    if counted[0][0] is None:
        return calm, None, counted[0]
    median = statistics.median_low(each[0] for each in counted)
    return calm, median, next(each for each in counted if each[0] == median)


def attempt(workload, pgbench, *, processes, duration_s, warmup_s):
    """Run a workload between two runs of pgbench; return it and what it reached."""
    from harness.postgres.workloads import Witness

    pgbench.run()
    witness = Witness(workload)
    result = run_closed_loop(
        workload,
        workers=CLIENTS,
        processes=processes,
        interleaved=True,
        duration_s=duration_s,
        warmup_s=warmup_s,
        process_setup=workload.process_setup,
        process_teardown=workload.process_teardown,
        setup=workload.setup,
        teardown=workload.teardown,
    )
    # Before pgbench works on the same tables again.
    witness.confirm(result)
    pgbench.run()
    assert not result.failed, result.examples
    return result, pgbench.details(result.throughput_per_s)


@pytest.mark.benchmark(group="postgres-anchor-best")
@pytest.mark.parametrize("work", TARGETS, ids="work={}".format)
def test_best_path_reaches_its_share_of_pgbench(
    work, postgres, pgbench_tables, anchor, record_load, sized
):
    """16 callers in two processes; a regression fails, a busy machine is INVALID.

    Efficiency is compared within an attempt, where pgbench ran right before and right
    after, and the median of several attempts is held to the target.
    """
    from harness.postgres.workloads import AccountLookup, TpcB

    path, target = TARGETS[work]
    processes = sized(full=PROCESSES, smoke=1)
    source = source_of(path, postgres, clients=CLIENTS, processes=processes)
    make = TpcB if work == "tpcb" else AccountLookup
    full = sized(full=True, smoke=False)
    reached = []

    def attempts(count):
        for _ in range(count):
            # A workload serves one run: its witness counts from the beginning.
            result, details = attempt(
                make(source, pgbench_tables, direct=True),
                anchor("tpcb-like" if work == "tpcb" else "select-only"),
                processes=processes,
                duration_s=sized(full=DURATION_S, smoke=0.4),
                warmup_s=sized(full=1.0, smoke=0.1),
            )
            reached.append((details.get("client_stack_efficiency"), result, details))
        return decided(reached)

    calm, efficiency, chosen = attempts(ATTEMPTS if full else 1)
    if full and efficiency is not None and efficiency < target:
        calm, efficiency, chosen = attempts(MORE_ATTEMPTS)
    missed = full and efficiency is not None and efficiency < target
    excused = missed and not calm
    record_load(
        chosen[1],
        details={
            **chosen[2],
            "target": target,
            "efficiency_of_attempts": [each[0] for each in reached],
        },
        invalid=(
            f"the machine was busy with other things, and {efficiency} of pgbench's "
            f"throughput is below {target}; repeat on a quiet machine"
            if excused
            else None
        ),
    )
    assert excused or not missed, (
        f"{work} by {path} reached {efficiency} of pgbench's throughput, "
        f"not {target}, on a machine that was not disturbed"
    )


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
        duration_s=sized(full=DURATION_S, smoke=0.4),
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
        duration_s=sized(full=DURATION_S, smoke=0.4),
        beside="tpcb-like",
    )
