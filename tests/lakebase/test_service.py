"""The assembly an application holds: one start, one stop, nothing left behind."""

from __future__ import annotations

import logging
import threading
from itertools import count

import pytest

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import ConfigError, TargetError
from harness.lakebase.monitoring.health_report import Finding, HealthCheck
from harness.lakebase.service import LakebaseService
from harness.postgres.connect import connect
from harness.settings import load_settings

PATIENCE_S = 30


def eventually(condition, *, what):
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, f"never: {what}"
        SYSTEM_CLOCK.sleep(0.01)


def threads_of_ours():
    ours = ("lakegauge-health", "lakegauge-metrics")
    return [t.name for t in threading.enumerate() if t.name.startswith(ours)]


@pytest.fixture
def make_settings(tmp_path):
    def make(overrides=None, **environ):
        return load_settings(
            {"pool.pool_size": 2, "pool.max_overflow": 2, **(overrides or {})},
            environ=environ,
            cwd=tmp_path,
            root=tmp_path,
        )

    return make


@pytest.fixture
def make_service(postgres, make_settings):
    services = []

    def make(overrides=None, *, environ=None, **options):
        service = LakebaseService(
            make_settings(overrides, **(environ or {})),
            **{"server": postgres, **options},
        )
        services.append(service)
        return service

    yield make
    for service in services:
        service.stop()


def test_one_start_gives_pool_performance_and_health(make_service):
    with make_service() as lakebase:
        for _ in range(3):
            with lakebase.pool.checkout() as connection:
                assert connection.execute("SELECT 7").fetchone() == (7,)

        report = lakebase.health.check_now()
        metrics = lakebase.get_performance_metrics()

    assert report.status == "healthy"
    assert [health.component for health in report.components] == [
        "database_connection",
        "database_performance",
        "connection_pool",
    ]
    assert metrics["connection_pool"]["total_checkouts"] == 3
    assert metrics["connection_pool"]["average_checkout_time_ms"] > 0
    assert metrics["connection_pool"]["pool_size"] == 2


def test_stop_leaves_no_thread_and_no_connection(make_service, postgres):
    def connected():
        with connect(postgres.connect_arguments()) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name "
                "IN ('leftovers', 'lakegauge_health')"
            )
            return {pid for (pid,) in rows}

    # The server is shared: what another test left is not this service's.
    before = connected()
    service = make_service({"security.application_name": "leftovers"}).start()
    service.health.check_now()
    assert connected() - before, "nothing was opened that could be left"
    service.stop()
    service.stop()

    eventually(lambda: not threads_of_ours(), what="threads ended")
    eventually(lambda: not connected() - before, what="connections closed")
    with pytest.raises(TargetError, match="call start"):
        _ = service.pool


def test_a_start_that_fails_leaves_nothing_behind(make_service):
    class Refusing:
        def __init__(self, server):
            self.info = server.info
            self.server = server

        def connect_arguments(self):
            arguments = self.server.connect_arguments()
            arguments["dbname"] = "no_such_database"
            return arguments

        def close(self):
            pass

    service = make_service()
    service._given_server = Refusing(service._given_server)

    with pytest.raises(TargetError, match="no_such_database"):
        service.start()

    eventually(lambda: not threads_of_ours(), what="threads ended")
    assert service._own_pool is None


def test_what_the_settings_switch_off_is_not_there(make_service):
    environ = {"ENABLE_PERFORMANCE_MONITORING": "no", "ENABLE_HEALTH_CHECKS": "no"}
    with make_service(environ=environ) as lakebase:
        assert not threads_of_ours()
        assert lakebase.get_performance_metrics() is None
        assert lakebase.get_health_status() is None
        with lakebase.pool.checkout() as connection:
            connection.execute("SELECT 1")


def test_intervals_are_those_of_the_settings(make_service, caplog):
    times = count()

    def find():
        next(times)
        return Finding(status="healthy", message="well")

    check = HealthCheck(component="own", find=find, timeout_s=PATIENCE_S)
    environ = {"HEALTH_CHECK_INTERVAL": "0.02", "METRICS_COLLECTION_INTERVAL": "0.02"}
    with make_service(environ=environ, checks=[check]) as lakebase:
        eventually(lambda: len(lakebase.health.history) >= 3, what="three reports")
        # Nobody but the collector looks: it finds the alert.
        with caplog.at_level(logging.WARNING, "harness.lakebase.service"):
            lakebase.performance.record_operation("read", 60_000.0)
            eventually(lambda: caplog.records, what="an alert in the log")

    assert "slow_operation" in caplog.text
    assert next(times) >= 3


def test_an_alert_is_logged_when_it_begins_and_when_it_ends(make_service, caplog):
    clock = ManualClock()
    environ = {"ENABLE_HEALTH_CHECKS": "no"}
    with make_service(clock=clock, environ=environ) as lakebase:
        lakebase.performance.record_operation("read", 60_000.0)
        with caplog.at_level(logging.INFO, "harness.lakebase.service"):
            for _ in range(3):
                lakebase.collect()
            clock.advance(400)
            for _ in range(3):
                lakebase.collect()

    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "slow_operation: read takes 60000 ms on average"),
        ("INFO", "slow_operation of read has ended"),
    ]


def test_a_pool_that_was_given_stays_open(make_service, make_pool, postgres):
    pool = make_pool(size_min=1, size_max=2)
    with make_service(server=postgres, pool=pool) as lakebase:
        assert lakebase.pool is pool
        assert lakebase.health.check_now().status == "healthy"

    with pool.checkout() as connection:
        connection.execute("SELECT 1")
    with pytest.raises(ConfigError, match="needs server"):
        make_service(server=None, pool=pool)


def test_a_lakebase_has_all_five_components(lakebase_settings):
    settings = lakebase_settings(
        pool__pool_size=1,
        pool__max_overflow=1,
    )
    with LakebaseService(settings) as lakebase:
        report = lakebase.health.check_now()

    found = {health.component: health.status.value for health in report.components}
    assert found == {
        "database_connection": "healthy",
        "database_performance": "healthy",
        "connection_pool": "healthy",
        "databricks_workspace": "healthy",
        "database_instance": "healthy",
    }
