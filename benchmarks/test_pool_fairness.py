"""Who gets the connection when many ask for few, again and again?"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError

THREADS, SIZE = 16, 4
CHECKOUT_TIMEOUT_S = 0.5
JAIN_MIN = 0.95


@pytest.mark.benchmark(group="pool-fairness")
@pytest.mark.parametrize(
    "kind", ["psycopg", "queue", "bare-psycopg_pool", "bare-sqlalchemy"],
    ids="pool={}".format,
)  # fmt: skip
def test_share_of_each_thread(kind, borrow_from, sized, record_durations):
    """Jain's index of the operations of 16 threads on 4 connections, no think time.

    1 is equal shares, 1/16 is one thread that gets everything. A thread that waits
    0.5 s while the pool serves the others has timed out, and counts as unfair.
    """
    borrow, timeout_class = borrow_from(kind)
    run_s = sized(full=3.0, smoke=0.7)
    start, stop = threading.Barrier(THREADS + 1), threading.Event()

    def work(_index):
        waits_ns, timeouts = [], 0
        start.wait()
        while not stop.is_set():
            asked_ns = SYSTEM_CLOCK.monotonic_ns()
            try:
                with borrow() as connection:
                    waits_ns.append(SYSTEM_CLOCK.monotonic_ns() - asked_ns)
                    connection.execute("SELECT 1")
            except timeout_class:
                timeouts += 1
        return waits_ns, timeouts

    with ThreadPoolExecutor(THREADS) as threads:
        working = [threads.submit(work, index) for index in range(THREADS)]
        start.wait()
        stop.wait(run_s)
        stop.set()
        done = [future.result() for future in working]

    shares = np.array([len(waits) for waits, _ in done], dtype=float)
    timeouts = sum(timeouts for _, timeouts in done)
    jain = float(shares.sum() ** 2 / (THREADS * (shares**2).sum()))
    record_durations(
        [wait / NS_PER_S for waits, _ in done for wait in waits],
        measure="checkout_wait",
        wall_s=run_s,
        completed=int(shares.sum()),
        details={
            "jain_index": round(jain, 3),
            "timeouts_count": timeouts,
            "operations_least": int(shares.min()),
            "operations_most": int(shares.max()),
        },
    )
    if not kind.startswith("bare"):
        assert jain >= JAIN_MIN
        assert timeouts == 0


@pytest.fixture
def borrow_from(make_pool, postgres):
    """Return a function: how to borrow from a pool, and what its time-out is."""
    opened = []

    def make(kind):
        if kind == "bare-psycopg_pool":
            import psycopg_pool

            pool = psycopg_pool.ConnectionPool(
                kwargs={**postgres.connect_arguments(), "autocommit": True},
                min_size=SIZE,
                max_size=SIZE,
                timeout=CHECKOUT_TIMEOUT_S,
                open=True,
            )
            pool.wait()
            opened.append(pool.close)
            return pool.connection, psycopg_pool.PoolTimeout
        if kind == "bare-sqlalchemy":
            import sqlalchemy.exc
            import sqlalchemy.pool

            from harness.postgres.connect import connect

            pool = sqlalchemy.pool.QueuePool(
                lambda: connect(postgres.connect_arguments()),
                pool_size=SIZE,
                max_overflow=0,
                timeout=CHECKOUT_TIMEOUT_S,
                reset_on_return=None,
            )
            opened.append(pool.dispose)

            @contextmanager
            def borrow():
                fairy = pool.connect()
                try:
                    yield fairy.dbapi_connection
                finally:
                    fairy.close()

            return borrow, sqlalchemy.exc.TimeoutError
        pool = make_pool(
            kind=kind,
            size_min=SIZE,
            size_max=SIZE,
            checkout_timeout_s=CHECKOUT_TIMEOUT_S,
        )
        return pool.checkout, CheckoutTimeoutError

    yield make
    for close in opened:
        close()
