"""An application's pool when its database fails, as the monitor shows it."""

from __future__ import annotations

from harness.lakebase.standin.faults import Fault


def test_dead_connections_show_and_pass(under_fault, eventually):
    """Every connection is reset, and no new one is let in, until the network heals."""
    before = under_fault.server.json("/metrics/pool")[1]

    under_fault.proxy.set(Fault(reset=True, refuse=True))
    eventually(
        lambda: (
            under_fault.health()["components"]["database_connection"]["status"]
            == "critical"
        ),
        what="the database is not reached",
    )
    eventually(
        lambda: (
            under_fault.server.json("/metrics/pool")[1]["connection_errors"]
            > before["connection_errors"]
        ),
        what="the pool cannot connect",
    )
    eventually(
        lambda: under_fault.server.json("/metrics/errors")[1]["recent_errors"],
        what="callers are told",
    )
    during = under_fault.server.json("/metrics/pool")[1]
    errors = under_fault.server.json("/metrics/errors")[1]
    ready, _ = under_fault.server.json("/readyz")
    under_fault.proxy.heal()
    eventually(under_fault.works, what="all is well again")

    assert during["total_closed"] > before["total_closed"]
    assert during["idle_connections"] == 0
    assert ready == 503
    assert set(errors["error_counts_by_category"]) <= {
        "database_connection",
        "database_timeout",
        "network",
    }
    assert errors["total_errors"] == sum(errors["error_counts_by_category"].values())
    after = under_fault.server.json("/metrics/pool")[1]
    assert after["total_created"] > during["total_created"]
    assert under_fault.server.json("/readyz")[0] == 200


def test_sessions_that_a_failover_ends_show_and_pass(under_fault, eventually):
    before = under_fault.server.json("/metrics/pool")[1]

    under_fault.standin.fail_over()
    eventually(
        lambda: (
            under_fault.server.json("/metrics/pool")[1]["total_closed"]
            > before["total_closed"]
        ),
        what="the pool has lost its sessions",
    )
    eventually(under_fault.works, what="all is well again")

    assert len(under_fault.standin.journal("failover")) == 1
    after = under_fault.server.json("/metrics/pool")[1]
    assert after["total_created"] > before["total_created"]


def test_suspended_database_is_seen_to_wake(under_fault, eventually):
    before = under_fault.server.json("/metrics/pool")[1]

    under_fault.standin.suspend()
    eventually(under_fault.works, what="all is well again")
    eventually(
        lambda: (
            under_fault.server.json("/metrics/pool")[1]["total_created"]
            > before["total_created"]
        ),
        what="the pool has connected anew",
    )

    assert under_fault.standin.journal("wake")
    after = under_fault.server.json("/metrics/pool")[1]
    assert after["total_closed"] > before["total_closed"]


def test_slow_network_shows_in_health_and_in_the_times_of_the_pool(
    under_fault, eventually
):
    under_fault.proxy.set(Fault(latency_s=0.6))
    eventually(
        lambda: (
            under_fault.health()["components"]["database_performance"]["status"]
            in {"warning", "critical"}
        ),
        what="the database is slow",
    )
    eventually(
        lambda: (
            (under_fault.server.json("/metrics/pool")[1]["usage_time"]["p99_ms"]) > 1000
        ),
        what="connections are used for longer than a second",
    )
    slow = under_fault.health()
    under_fault.proxy.heal()
    eventually(under_fault.works, what="all is well again")

    assert slow["components"]["database_performance"]["message"].startswith("needed ")
    assert slow["components"]["databricks_workspace"]["status"] == "healthy"
