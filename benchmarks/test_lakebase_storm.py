"""How long do callers wait when many come at once and Lakebase is far away?"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.lakebase.standin.faults import Fault
from harness.postgres.connect import connect

CONNECT_S = 0.150
PATIENCE_S = 60.0


@pytest.mark.benchmark(group="lakebase-storm")
@pytest.mark.parametrize("clients", [20, 50, 200], ids="clients={:03d}".format)
def test_wait_in_a_storm_of_token_logins(
    clients, make_lakebase_standin, make_fault_proxy, make_standin_pool, sized,
    record_durations,
):  # fmt: skip
    """Everybody asks an empty pool at once and keeps what it gets until all have one.

    Real logins with a token over TLS through a network on which one takes 150 ms.
    Whoever connects for itself is measured beside: what both ends can do at all.
    Where client, proxy, stand-in and server share two processors, twenty handshakes
    at once are bound by them: `ratio_without_pool` says what the pool itself adds.
    """
    if clients > 20 and sized(full=False, smoke=True):
        pytest.skip("the large storms are left out of a smoke run")
    standin = make_lakebase_standin(cu=2)
    proxy = make_fault_proxy("127.0.0.1", standin.direct_port)
    standin.port = proxy.port
    server = standin.server()
    near_s = min(seconds_of(lambda: login(server)) for _ in range(3))
    # A login is five round trips: TCP ends at the proxy, the others go through.
    proxy.set(Fault(latency_s=max(0.0, CONNECT_S - near_s) / 8))
    one_s = float(np.median([seconds_of(lambda: login(server)) for _ in range(5)]))

    alone_s = storm(lambda: connect(server.connect_arguments()), clients)
    standin.clear_journal()
    pool = make_standin_pool(
        standin, size_min=0, size_max=clients, checkout_timeout_s=PATIENCE_S
    )
    waits_s = storm(pool.checkout, clients)

    logins = [e for e in standin.journal("login") if e["sqlstate"] == "00000"]
    server.close()
    record_durations(
        waits_s,
        measure="checkout_wait",
        wall_s=max(waits_s),
        completed=clients,
        details={
            "one_connect_ms": round(one_s * 1e3, 1),
            "without_pool_ms_p50": round(float(np.median(alone_s)) * 1e3, 1),
            "ratio_to_one_connect": round(float(np.median(waits_s)) / one_s, 2),
            "ratio_without_pool": round(
                float(np.median(waits_s)) / float(np.median(alone_s)), 2
            ),
            "logins_count": len(logins),
            "mints_count": len(standin.requests("credentials")),
        },
    )
    assert pool.metrics().checkout_timeouts_count == 0
    # As many as there were clients, and the one that looked at the server first.
    assert len(logins) == clients + 1
    assert len(standin.requests("credentials")) == 1, "one token for all of them"
    assert standin.stats()["primary_peak"] <= 2 * clients


def login(server):
    """Log in and out."""
    connect(server.connect_arguments()).close()


def seconds_of(operation):
    """Return how long it took, in seconds."""
    from_ns = SYSTEM_CLOCK.monotonic_ns()
    operation()
    return (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S


def storm(borrow, clients):
    """Return how long each client waited for the connection it got, in seconds."""
    start, together = threading.Barrier(clients), threading.Barrier(clients)

    def work(_index):
        start.wait(PATIENCE_S)
        asked_ns = SYSTEM_CLOCK.monotonic_ns()
        with borrow():
            waited_ns = SYSTEM_CLOCK.monotonic_ns() - asked_ns
            together.wait(PATIENCE_S)
        return waited_ns / NS_PER_S

    with ThreadPoolExecutor(clients) as threads:
        return list(threads.map(work, range(clients)))
