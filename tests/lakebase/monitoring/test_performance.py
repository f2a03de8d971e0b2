"""Counting and timing operations: the originals' keys, computed rightly."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import numpy as np
import pytest

from harness.errors import CheckoutTimeoutError, ConfigError
from harness.lakebase.monitoring.alerts import AlertThresholds
from harness.lakebase.monitoring.performance import (
    OPERATIONS_MAX,
    OTHER,
    PerformanceMonitor,
)
from harness.lakebase.monitoring.timing import timed_operation

KEYS_OF_AN_OPERATION = {
    "operation",
    "total_requests",
    "successful_requests",
    "failed_requests",
    "success_rate",
    "average_duration_ms",
    "min_duration_ms",
    "max_duration_ms",
    "p50_duration_ms",
    "p95_duration_ms",
    "p99_duration_ms",
}
KEYS_OF_A_POOL = {
    "pool_size",
    "active_connections",
    "idle_connections",
    "overflow_connections",
    "total_checkouts",
    "total_checkins",
    "checkout_timeouts",
    "connection_errors",
    "average_checkout_time_ms",
    "utilization_rate",
}


@pytest.fixture
def monitor(figures, clock):
    return PerformanceMonitor(figures, clock=clock)


def types_of(monitor):
    return {alert.type: alert.severity for alert in monitor.alerts()}


def test_summary_has_every_key_of_the_originals(monitor):
    monitor.record_operation("read", 5.0)

    summary = monitor.summary()

    assert summary.keys() >= {
        "uptime_seconds",
        "total_requests",
        "total_errors",
        "overall_success_rate",
        "recent_5min",
        "operation_stats",
        "connection_pool",
        "performance_alerts",
    }
    recent = summary["recent_5min"]
    assert recent.keys() >= {"requests", "success_rate", "average_duration_ms"}
    assert summary["operation_stats"]["read"].keys() >= KEYS_OF_AN_OPERATION
    assert summary["connection_pool"].keys() >= KEYS_OF_A_POOL
    assert json.loads(monitor.export_metrics("json")) == summary


def test_percentiles_of_one_to_hundred_are_not_one_off(monitor):
    """`sorted[int(n * p)]` says 51 and 100."""
    for value in range(1, 101):
        monitor.record_operation("read", float(value))

    stats = monitor.operation_stats()["read"]

    assert stats["p50_duration_ms"] == pytest.approx(50, rel=0.004)
    assert stats["p95_duration_ms"] == pytest.approx(95, rel=0.004)
    assert stats["p99_duration_ms"] == pytest.approx(99, rel=0.004)


def test_percentiles_are_of_every_operation_like_the_average(monitor):
    """Not of the last thousand, while average and extremes are of all."""
    durations_ms = np.random.default_rng(1).lognormal(2, 1, 30_000)
    durations_ms[:5000] += 100

    for value in durations_ms.tolist():
        monitor.record_operation("read", value)

    stats = monitor.operation_stats()["read"]
    for key, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = np.quantile(durations_ms, q, method="inverted_cdf")
        assert stats[f"{key}_duration_ms"] == pytest.approx(exact, rel=0.004)
    assert stats["average_duration_ms"] == pytest.approx(durations_ms.mean(), abs=1e-5)
    assert stats["min_duration_ms"] == pytest.approx(durations_ms.min(), abs=1e-5)
    assert stats["max_duration_ms"] == pytest.approx(durations_ms.max(), abs=1e-5)


def test_window_forgets_what_is_older_and_the_whole_does_not(monitor, clock):
    for _ in range(20):
        monitor.record_operation("read", 100.0)
    clock.advance(200)
    for _ in range(10):
        monitor.record_operation("read", 1.0, success=False, error_category="network")

    assert monitor.summary()["recent_5min"]["requests"] == 30
    clock.advance(150)
    recent = monitor.summary()["recent_5min"]
    assert recent["requests"] == 10
    assert recent["success_rate"] == 0
    assert recent["p99_duration_ms"] == pytest.approx(1.0, rel=0.004)
    clock.advance(300)
    assert monitor.summary()["recent_5min"]["requests"] == 0
    assert monitor.summary()["recent_5min"]["success_rate"] is None
    assert monitor.summary()["total_requests"] == 30


def test_window_works_without_a_collection_in_between(figures, clock):
    """The original's recent figures were 0 once its details were switched off."""
    monitor = PerformanceMonitor(figures, clock=clock, window_s=60)
    clock.advance(1000)
    monitor.record_operation("read", 7.0)

    assert monitor.summary()["recent_5min"]["requests"] == 1


def test_no_operation_is_lost_when_threads_record_while_others_read(clock):
    monitor = PerformanceMonitor(clock=clock)
    threads_count, each = 8, 10_000
    start = threading.Barrier(threads_count + 1)
    done = threading.Event()

    def record():
        start.wait()
        for index in range(each):
            monitor.record_operation("read", 1.0, index % 10 > 0, "network")

    def read():
        start.wait()
        while not done.is_set():
            monitor.summary()

    threads = [threading.Thread(target=record) for _ in range(threads_count)]
    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()

    stats = monitor.operation_stats()["read"]
    assert stats["total_requests"] == threads_count * each
    assert stats["errors_by_category"] == {"network": threads_count * each / 10}


def test_a_name_for_every_iteration_does_not_fill_the_memory(monitor, caplog):
    with caplog.at_level(logging.WARNING):
        for index in range(OPERATIONS_MAX + 300):
            monitor.record_operation(f"query {index}", 1.0)
        stats = monitor.operation_stats()

    assert len(stats) == OPERATIONS_MAX + 1
    assert stats[OTHER]["total_requests"] == 300
    assert len(caplog.records) == 1


@pytest.mark.parametrize("duration_ms", [-0.1, float("nan"), float("inf"), 1e13])
def test_a_duration_that_is_none_is_refused(monitor, duration_ms):
    with pytest.raises(ValueError, match="duration_ms must be >= 0"):
        monitor.record_operation("read", duration_ms)

    assert monitor.summary()["total_requests"] == 0


def test_the_slowest_operation_is_remembered_with_what_is_known_of_it(monitor):
    for row in (3, 9, 5):
        monitor.record_operation("read", float(row), metadata={"row": row})

    assert monitor.operation_stats()["read"]["slowest"] == {"row": 9}


@pytest.mark.parametrize(
    ("failed", "of", "severity"),
    [
        (1, 9, None),
        (5, 100, None),
        (6, 100, "medium"),
        (10, 100, "medium"),
        (11, 100, "high"),
        (1, 10, "medium"),
        (2, 10, "high"),
    ],
    ids=str,
)
def test_high_error_rate_is_raised_beyond_its_thresholds(monitor, failed, of, severity):
    for index in range(of):
        monitor.record_operation("read", 1.0, index >= failed)

    assert types_of(monitor).get("high_error_rate") == severity


@pytest.mark.parametrize(
    ("average_ms", "severity"),
    [(5000, None), (5001, "medium"), (10_000, "medium"), (10_001, "high")],
)
def test_slow_operation_is_raised_beyond_its_thresholds(monitor, average_ms, severity):
    monitor.record_operation("read", average_ms - 10)
    monitor.record_operation("read", average_ms + 10)

    assert types_of(monitor).get("slow_operation") == severity


@pytest.mark.parametrize(
    ("in_use", "severity"), [(90, None), (91, "medium"), (95, "medium"), (96, "high")]
)
def test_high_pool_utilization_is_raised_beyond_its_thresholds(
    figures, clock, in_use, severity
):
    figures.now(size_max=100, size=100, in_use=in_use, idle=100 - in_use)

    monitor = PerformanceMonitor(figures, clock=clock)

    assert types_of(monitor).get("high_pool_utilization") == severity


def test_alerts_end_with_what_they_were_about(monitor, figures, clock):
    figures.count(checkout_timeouts_count=2)
    for _ in range(10):
        monitor.record_operation("read", 20_000.0, success=False)
    raised = {"connection_checkout_timeouts", "high_error_rate", "slow_operation"}
    assert types_of(monitor).keys() == raised
    for _ in range(40):
        clock.advance(10)
        monitor.pool_view()

    assert not monitor.alerts()
    assert monitor.summary()["connection_pool"]["checkout_timeouts"] == 2


def test_thresholds_can_be_set_and_are_checked(figures, clock):
    strict = PerformanceMonitor(
        figures, clock=clock, thresholds=AlertThresholds(slow_query_ms=10)
    )
    strict.record_operation("read", 11.0)

    assert "slow_operation" in types_of(strict)
    with pytest.raises(ConfigError, match=r"slow_query_ms must be > 0, got -1"):
        AlertThresholds(slow_query_ms=-1)


def test_checkout_times_of_the_pool_are_its_own(monitor, figures):
    """The original's were always 0, and went to another monitor."""
    figures.count(checkout_waits_ms=range(1, 101))

    pool = monitor.summary()["connection_pool"]

    assert pool["total_checkouts"] == 100
    assert pool["average_checkout_time_ms"] == pytest.approx(50.5, rel=0.004)
    assert pool["checkout_time_ms_p99"] == pytest.approx(99, rel=0.008)


def test_pool_window_is_the_difference_of_two_states(monitor, figures, clock):
    figures.count(checkout_waits_ms=[500] * 50)
    for _ in range(40):
        clock.advance(10)
        monitor.pool_view()
    figures.count(checkout_waits_ms=[1] * 50)

    view = monitor.pool_view()

    assert len(view.whole.checkout_wait) == 100
    assert len(view.recent.checkout_wait) == 50
    assert view.recent.checkout_wait.value_max == pytest.approx(1e6, rel=0.008)
    assert 290 <= view.recent_s <= 310


def test_memory_of_the_pool_window_is_bounded(monitor, clock):
    for _ in range(5000):
        clock.advance(1)
        monitor.pool_view()

    assert len(monitor._watch._states) <= 32


def test_reset_begins_again(monitor, figures, clock):
    figures.count(checkout_waits_ms=[1, 2])
    monitor.record_operation("read", 1.0)
    clock.advance(5)

    monitor.reset_metrics()

    summary = monitor.summary()
    assert summary["total_requests"] == summary["uptime_seconds"] == 0
    assert summary["connection_pool"]["total_checkouts"] == 0


def test_a_timed_call_is_counted_and_keeps_its_name(clock):
    monitor = PerformanceMonitor(clock=clock)

    @timed_operation("work", monitor)
    def work(amount):
        """Say what it does."""
        clock.advance(amount)
        return amount

    @timed_operation("work", monitor)
    async def work_async(amount):
        return work(amount)

    assert work(0.25) == 0.25
    assert asyncio.run(work_async(0.25)) == 0.25
    assert (work.__name__, work.__doc__) == ("work", "Say what it does.")
    assert asyncio.iscoroutinefunction(work_async)
    stats = monitor.operation_stats()["work"]
    assert stats["total_requests"] == 3
    assert stats["max_duration_ms"] == 250


def test_a_timed_call_that_fails_keeps_its_error_and_is_counted(clock):
    monitor = PerformanceMonitor(clock=clock)
    refusal = CheckoutTimeoutError(
        pool_name="p", waited_s=1, size_max=1, in_use=1, waiting=1
    )

    @timed_operation("work", monitor)
    def work():
        raise refusal

    with pytest.raises(CheckoutTimeoutError) as caught:
        work()

    assert caught.value is refusal
    stats = monitor.operation_stats()["work"]
    assert stats["errors_by_category"] == {"database_timeout": 1}


def test_summary_is_logged_with_one_line_for_each_alert(monitor, caplog):
    monitor.record_operation("read", 20_000.0)

    with caplog.at_level(logging.INFO):
        monitor.log_performance_summary()

    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_an_unknown_form_of_export_is_refused(monitor):
    with pytest.raises(ConfigError, match="must be json or prometheus, got 'xml'"):
        monitor.export_metrics("xml")
