"""What does a change of the compute's size do to a pool, and to its budget?"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError, ConfigError
from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

SIZE = 8
RATE_PER_S = 100
RESIZE_S = 0.2
# Superusers keep three.
RESERVED = 3


@pytest.mark.benchmark(group="lakebase-cu-step")
def test_insert_while_the_compute_changes_size(
    make_lakebase_standin, make_standin_pool, sized, record_load
):
    """1, 2, 4 and 1 units under load: each step ends every session with 57P01."""
    duration_s, sizes = sized(full=(20.0, (2, 4, 1)), smoke=(2.5, (4,)))
    standin = make_lakebase_standin(cu=1, failover_s=RESIZE_S)
    pool = make_standin_pool(standin, size_min=SIZE, size_max=SIZE)
    ledger = Ledger(pool, settle_every=1)
    pause_s = duration_s / (len(sizes) + 1)
    standin.play(
        [
            {"at_s": pause_s * (i + 1), "do": "resize", "cu": cu}
            for i, cu in enumerate(sizes)
        ]
    )

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=64,
        drain_s=10.0,
    )

    audit = ledger.confirm()
    with pool.checkout() as connection:
        (limit,) = connection.execute("SHOW max_connections").fetchone()
    record_load(
        result,
        details={
            **audit.details(),
            "steps_count": len(sizes),
            "max_connections": int(limit),
            "outage_ms_max": round(result.outage_s * 1e3, 1),
        },
    )
    assert len(standin.journal("resize")) == len(sizes)
    assert result.failed == result.unfinished == result.dropped == 0
    assert int(limit) == standin.stats()["max_connections"]
    assert pool.stats().size == SIZE


@pytest.mark.benchmark(group="lakebase-cu-budget")
def test_pool_larger_than_the_compute(
    make_lakebase_standin, make_standin_pool, record_durations
):
    """When the compute shrinks, served all the same; a new one like it is refused.

    Measured is the checkout wait of 120 callers of a pool of 120, on a compute that
    takes 104 connections.
    """
    callers = 120
    standin = make_lakebase_standin(cu=1, failover_s=RESIZE_S)
    pool = make_standin_pool(standin, size_min=1, size_max=callers)
    standin.resize(0.5)
    small = standin.stats()["max_connections"]
    with pytest.raises(ConfigError, match=f"at most {small - RESERVED} per process"):
        make_standin_pool(standin, size_min=1, size_max=callers)
    full, refused = threading.Barrier(small), 0

    def hold(index):
        asked_ns = SYSTEM_CLOCK.monotonic_ns()
        with pool.checkout(timeout_s=30.0) as connection:
            waited_ns = SYSTEM_CLOCK.monotonic_ns() - asked_ns
            if index < small:
                # So many at the same time, which is all that the compute takes.
                full.wait(30.0)
            assert connection.execute("SELECT 1").fetchone() == (1,)
        return waited_ns / NS_PER_S

    from_ns = SYSTEM_CLOCK.monotonic_ns()
    with ThreadPoolExecutor(callers) as threads:
        waits_s = list(threads.map(hold, range(callers)))
    wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
    refused = [e for e in standin.journal("login") if e["sqlstate"] == "53300"]

    record_durations(
        waits_s,
        measure="checkout_wait",
        wall_s=wall_s,
        completed=callers,
        details={
            "max_connections": small,
            "connections_peak": standin.stats()["primary_peak"],
            "logins_refused_count": len(refused),
            "connect_failures_count": pool.metrics().connect_failures_count,
        },
    )
    assert pool.metrics().checkout_timeouts_count == 0
    assert standin.stats()["primary_taken"] <= small
    # Whoever cannot be served in time is told the server's own reason.
    with ThreadPoolExecutor(small) as threads:
        gate = threading.Barrier(small + 1)
        leave = threading.Event()

        def occupy(_index):
            with pool.checkout(timeout_s=30.0):
                gate.wait(30.0)
                leave.wait(30.0)

        holding = [threads.submit(occupy, index) for index in range(small)]
        gate.wait(30.0)
        try:
            with pytest.raises(CheckoutTimeoutError, match="53300") as caught:
                pool.checkout(timeout_s=1.0).__enter__()
        finally:
            leave.set()
        for future in holding:
            future.result()
    assert caught.value.failure.sqlstate == "53300"
