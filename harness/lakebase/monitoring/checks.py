"""The components of a Lakebase application, and how each is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.lakebase.monitoring.health_report import (
    Finding,
    HealthCheck,
    HealthStatus,
)
from harness.lakebase.monitoring.pool_watch import between

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lakebase.monitoring.pool_watch import WatchedPool
    from harness.postgres.probe import Probe

CONNECTION_TIMEOUT_S = 10.0
PERFORMANCE_TIMEOUT_S = 15.0
WORKSPACE_TIMEOUT_S = 10.0
INSTANCE_TIMEOUT_S = 15.0
POOL_TIMEOUT_S = 5.0

SLOW_S = 1.0
VERY_SLOW_S = 5.0
FULL_PCT = 90.0

# Both products' words for what a database is doing. One that is suspended is well:
# it wakes when somebody connects.
STATES = {
    "AVAILABLE": HealthStatus.HEALTHY,
    "ACTIVE": HealthStatus.HEALTHY,
    "IDLE": HealthStatus.HEALTHY,
    "STARTING": HealthStatus.WARNING,
    "UPDATING": HealthStatus.WARNING,
    "INIT": HealthStatus.WARNING,
    "DEGRADED": HealthStatus.UNHEALTHY,
    "FAILING_OVER": HealthStatus.UNHEALTHY,
    "STOPPED": HealthStatus.CRITICAL,
    "DELETING": HealthStatus.CRITICAL,
}

_PERFORMANCE = """
SELECT pg_database_size(current_database()),
       count(*) FILTER (WHERE state = 'active' AND pid <> pg_backend_pid()),
       count(*),
       current_setting('max_connections')::int
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""


def database_connection(probe: Probe) -> HealthCheck:
    """Check that the database answers at all."""

    def find() -> Finding:
        (version,), elapsed_s = probe.ask("SELECT current_setting('server_version')")
        return Finding(
            status=HealthStatus.HEALTHY,
            message=f"answered in {elapsed_s * 1000:.1f} ms",
            details={"server_version": version, "query_time_ms": elapsed_s * 1000},
        )

    return HealthCheck(
        component="database_connection",
        find=find,
        timeout_s=CONNECTION_TIMEOUT_S,
        abandon=probe.abandon,
    )


def database_performance(probe: Probe) -> HealthCheck:
    """Check how fast it answers a question that costs it something."""

    def find() -> Finding:
        row, elapsed_s = probe.ask(_PERFORMANCE)
        size_bytes, active, used, limit = row
        status, message = HealthStatus.HEALTHY, f"answered in {elapsed_s * 1000:.1f} ms"
        if elapsed_s > VERY_SLOW_S:
            status, message = HealthStatus.CRITICAL, f"needed {elapsed_s:.1f} s"
        elif elapsed_s > SLOW_S:
            status, message = HealthStatus.WARNING, f"needed {elapsed_s:.1f} s"
        elif 100 * used / limit > FULL_PCT:
            status = HealthStatus.WARNING
            message = f"{used} of {limit} connections of the server are in use"
        return Finding(
            status=status,
            message=message,
            details={
                "database_size_bytes": size_bytes,
                "active_connections": active,
                "server_connections": used,
                "max_connections": limit,
                "query_time_ms": elapsed_s * 1000,
            },
        )

    return HealthCheck(
        component="database_performance",
        find=find,
        timeout_s=PERFORMANCE_TIMEOUT_S,
        abandon=probe.abandon,
    )


def databricks_workspace(user_name: Callable[[], str]) -> HealthCheck:
    """Check that the workspace knows us.

    Without it no token can be minted, but open connections and the token at hand go
    on: unhealthy, not critical.
    """

    def find() -> Finding:
        name = user_name()
        return Finding(
            status=HealthStatus.HEALTHY,
            message="the workspace answers",
            details={"user_name": name},
        )

    return HealthCheck(
        component="databricks_workspace",
        find=find,
        timeout_s=WORKSPACE_TIMEOUT_S,
        failed=HealthStatus.UNHEALTHY,
    )


def database_instance(state: Callable[[], str]) -> HealthCheck:
    """Check what the service says that the database is doing.

    Args:
        state: Asks it; returns its own word, such as "AVAILABLE" or "ACTIVE".
    """

    def find() -> Finding:
        word = state()
        return Finding(
            status=STATES.get(word, HealthStatus.WARNING),
            message=f"the service says {word}",
            details={"state": word},
        )

    return HealthCheck(
        component="database_instance",
        find=find,
        timeout_s=INSTANCE_TIMEOUT_S,
        failed=HealthStatus.UNHEALTHY,
    )


def connection_pool(pool: WatchedPool) -> HealthCheck:
    """Check that the pool has connections to give.

    Failures count between two examinations: one of last week is no news.
    """
    last = [pool.metrics()]

    def find() -> Finding:
        stats, metrics = pool.stats(), pool.metrics()
        news, last[0] = between(metrics, last[0]), metrics
        failed, late = news.connect_failures_count, news.checkout_timeouts_count
        used_pct = 100 * stats.in_use / stats.size_max
        status, message = HealthStatus.HEALTHY, "connections are free"
        if stats.in_use >= stats.size_max:
            status = HealthStatus.CRITICAL
            waiting = "some" if stats.waiting is None else stats.waiting
            message = f"all {stats.size_max} connections are in use, {waiting} wait"
        elif used_pct > FULL_PCT:
            status = HealthStatus.WARNING
            message = f"{stats.in_use} of {stats.size_max} connections are in use"
        elif failed or late:
            status = HealthStatus.WARNING
            message = (
                f"{failed} attempts to connect failed and {late} checkouts timed out "
                "since the last examination"
            )
        return Finding(
            status=status,
            message=message,
            details={
                "in_use": stats.in_use,
                "idle": stats.idle,
                "waiting": stats.waiting,
                "size": stats.size,
                "size_max": stats.size_max,
                "utilization_rate": used_pct,
                "connect_failures": failed,
                "checkout_timeouts": late,
            },
        )

    return HealthCheck(component="connection_pool", find=find, timeout_s=POOL_TIMEOUT_S)
