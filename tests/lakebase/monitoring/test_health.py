"""Health checks: they end in time, never block, and say what is so."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from datetime import timedelta

import pytest

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import ConfigError, TargetError
from harness.lakebase.monitoring.health import HISTORY_MAX, HealthMonitor
from harness.lakebase.monitoring.health_report import (
    Finding,
    HealthCheck,
    HealthStatus,
)

PATIENCE_S = 30
HEALTHY = Finding(status=HealthStatus.HEALTHY, message="well")


def finds(status, component="part", *, timeout_s=PATIENCE_S):
    finding = Finding(status=HealthStatus(status), message=f"is {status}")
    return HealthCheck(component=component, find=lambda: finding, timeout_s=timeout_s)


def blocks(event, component="hanging", *, timeout_s=0.05, **how):
    """A check that holds its thread until the event, as a driver does in a socket."""

    def find():
        assert event.wait(PATIENCE_S)
        return HEALTHY

    return HealthCheck(component=component, find=find, timeout_s=timeout_s, **how)


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make_monitor():
    monitors = []

    def make(*checks, **options):
        monitor = HealthMonitor(checks, **options)
        monitors.append(monitor)
        return monitor

    yield make
    for monitor in monitors:
        monitor.stop()


def statuses_of(report):
    return {health.component: health.status.value for health in report.components}


@pytest.mark.parametrize(
    ("found", "overall"),
    [
        (["healthy", "healthy"], "healthy"),
        (["healthy", "warning"], "warning"),
        (["unhealthy", "warning"], "unhealthy"),
        (["critical", "unhealthy", "warning", "healthy"], "critical"),
    ],
)
def test_overall_status_is_the_worst_not_the_last_of_the_alphabet(
    make_monitor, found, overall
):
    monitor = make_monitor(
        *(finds(status, f"part {index}") for index, status in enumerate(found))
    )

    assert monitor.check_now().status == overall


def test_report_has_status_and_overall_status(make_monitor):
    """Half of the original asked for one and half for the other: /health was 500."""
    report = make_monitor(finds("warning")).check_now().as_dict()

    assert report["status"] == report["overall_status"] == "warning"
    assert report["components"]["part"]["message"] == "is warning"
    json.dumps(report, allow_nan=False)


def test_nothing_is_said_before_the_first_examination(make_monitor):
    """The original was healthy before anybody had looked."""
    monitor = make_monitor(finds("healthy"))

    assert monitor.latest is None
    assert monitor.get_health_trends()["availability_percent"] is None


def test_a_blocking_check_ends_at_its_time_out(make_monitor, released):
    """`wait_for` around a blocking call in a coroutine cannot do that."""
    monitor = make_monitor(blocks(released), finds("healthy"))

    report = monitor.check_now()

    assert not released.is_set()
    assert statuses_of(report) == {"hanging": "critical", "part": "healthy"}
    assert report.components[0].message == "did not answer within 0.05 s"


def test_a_coroutine_that_never_ends_ends_at_its_time_out(make_monitor):
    never = asyncio.Event()

    async def find():
        await asyncio.wait_for(never.wait(), PATIENCE_S)

    check = HealthCheck(component="async", find=find, timeout_s=0.05)

    assert statuses_of(make_monitor(check).check_now()) == {"async": "critical"}


def test_checks_run_side_by_side(make_monitor):
    """Each waits for all: one after another, none would ever answer."""
    together = threading.Barrier(5)

    def find():
        together.wait(PATIENCE_S)
        return HEALTHY

    monitor = make_monitor(
        *(
            HealthCheck(component=str(index), find=find, timeout_s=PATIENCE_S)
            for index in range(5)
        )
    )

    assert monitor.check_now().status == "healthy"


def test_a_check_that_hangs_is_not_begun_again(make_monitor, released):
    begun = []

    def find():
        begun.append(1)
        released.wait(PATIENCE_S)
        return HEALTHY

    monitor = make_monitor(HealthCheck(component="part", find=find, timeout_s=0.05))
    monitor.check_now()

    second = monitor.check_now()

    assert len(begun) == 1
    assert second.components[0].message.startswith("has not answered since")
    assert second.status == "critical"


def test_a_check_that_hung_is_looked_at_again_once_it_has_ended(make_monitor, released):
    ended = threading.Event()

    def find():
        released.wait(PATIENCE_S)
        ended.set()
        return HEALTHY

    monitor = make_monitor(HealthCheck(component="part", find=find, timeout_s=0.05))
    monitor.check_now()
    released.set()
    assert ended.wait(PATIENCE_S)
    hanging, _ = monitor._hanging["part"]
    hanging.result(PATIENCE_S)

    assert monitor.check_now().status == "healthy"


def test_what_hangs_is_told_to_end(make_monitor):
    told = threading.Event()
    monitor = make_monitor(blocks(told, abandon=told.set))

    monitor.check_now()

    assert told.is_set()


def test_starting_and_reading_do_not_wait_for_a_check(make_monitor, released):
    monitor = make_monitor(blocks(released, timeout_s=PATIENCE_S))
    started_ns = SYSTEM_CLOCK.monotonic_ns()

    monitor.start()
    latest = monitor.latest

    assert latest is None
    assert SYSTEM_CLOCK.monotonic_ns() - started_ns < PATIENCE_S * 1e9 / 10
    assert not released.is_set()


def test_the_event_loop_goes_on_while_checks_block(make_monitor, released):
    monitor = make_monitor(blocks(released, timeout_s=PATIENCE_S))

    async def watch():
        examination = asyncio.create_task(monitor.check_now_async())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not examination.done()
        released.set()
        return await examination

    assert asyncio.run(watch()).status == "healthy"


def test_a_caller_that_is_cancelled_takes_the_report_from_nobody(
    make_monitor, released
):
    monitor = make_monitor(blocks(released, timeout_s=PATIENCE_S))

    async def watch():
        first = asyncio.create_task(monitor.check_now_async())
        second = asyncio.create_task(monitor.check_now_async())
        await asyncio.sleep(0)
        first.cancel()
        released.set()
        return await second

    assert asyncio.run(watch()).status == "healthy"
    assert len(monitor.history) == 1


def test_callers_at_the_same_time_share_one_examination(make_monitor, released):
    monitor = make_monitor(blocks(released, timeout_s=PATIENCE_S))
    flights = {monitor._examination() for _ in range(8)}
    released.set()

    (flight,) = flights
    assert flight.result(PATIENCE_S).status == "healthy"
    assert monitor.history == (flight.result(),)


def test_background_examines_again_and_again_until_stopped(make_monitor):
    thrice = threading.Event()
    times = []

    def find():
        times.append(1)
        if len(times) == 3:
            thrice.set()
        return HEALTHY

    check = HealthCheck(component="part", find=find, timeout_s=PATIENCE_S)
    monitor = make_monitor(check, interval_s=0.01)
    monitor.start()
    monitor.start()
    (thread,) = [t for t in threading.enumerate() if t.name == "lakegauge-health"]

    assert thrice.wait(PATIENCE_S)
    monitor.stop()
    assert not thread.is_alive()
    monitor.stop()


def test_the_reason_of_a_failed_check_is_ours_or_its_class_only(make_monitor):
    """The text of a foreign exception may quote a connection string."""

    def foreign():
        raise RuntimeError("postgresql://user:hunter2@host/db")

    def ours():
        raise TargetError("the server refuses", sqlstate="53300")

    report = make_monitor(
        HealthCheck(component="foreign", find=foreign, timeout_s=PATIENCE_S),
        HealthCheck(component="ours", find=ours, timeout_s=PATIENCE_S),
    ).check_now()

    assert [health.message for health in report.components] == [
        "RuntimeError",
        "the server refuses",
    ]
    assert "hunter2" not in json.dumps(report.as_dict())
    assert report.components[1].details["sqlstate"] == "53300"


def test_a_time_out_inside_a_check_is_not_taken_for_its_own(make_monitor):
    def find():
        raise TimeoutError("of something it asked")

    check = HealthCheck(component="part", find=find, timeout_s=PATIENCE_S)

    assert make_monitor(check).check_now().components[0].message == "TimeoutError"


@pytest.mark.parametrize(
    ("ranks", "trend"),
    [
        (["critical", "critical", "warning", "healthy"], "improving"),
        (["healthy", "warning", "unhealthy", "critical"], "degrading"),
        (["warning"] * 6, "stable"),
        (["healthy", "healthy", "healthy"], "insufficient_data"),
        # By the alphabet, warning comes after unhealthy.
        (["warning", "warning", "unhealthy", "unhealthy"], "degrading"),
    ],
)
def test_trend_follows_how_bad_it_is(make_monitor, ranks, trend):
    found = iter(ranks)
    check = HealthCheck(
        component="part",
        find=lambda: Finding(status=HealthStatus(next(found)), message=""),
        timeout_s=PATIENCE_S,
    )
    monitor = make_monitor(check)
    for _ in ranks:
        monitor.check_now()

    assert monitor.get_health_trends()["trend"] == trend


def test_trends_are_of_their_period_with_the_originals_keys(make_monitor):
    clock = ManualClock()
    found = iter(["critical", "healthy", "warning", "unhealthy", "healthy"])
    check = HealthCheck(
        component="part",
        find=lambda: Finding(status=HealthStatus(next(found)), message=""),
        timeout_s=PATIENCE_S,
    )
    monitor = make_monitor(check, clock=clock)
    monitor.check_now()
    clock.advance(timedelta(hours=2).total_seconds())
    for _ in range(4):
        monitor.check_now()

    assert monitor.get_health_trends(hours=1) == {
        "period_hours": 1,
        "total_checks": 4,
        "availability_percent": 75,
        "status_distribution": {
            "healthy": 2,
            "warning": 1,
            "unhealthy": 1,
            "critical": 0,
        },
        "latest_status": "healthy",
        "trend": "degrading",
    }
    assert monitor.get_health_trends(hours=24)["total_checks"] == 5


def test_history_keeps_the_last_hundred(make_monitor):
    monitor = make_monitor(finds("healthy"))
    for _ in range(HISTORY_MAX + 5):
        monitor.check_now()

    assert len(monitor.history) == HISTORY_MAX


def test_a_change_is_logged_and_what_stays_is_not(make_monitor, caplog):
    found = iter(["healthy", "critical", "critical", "healthy"])
    check = HealthCheck(
        component="part",
        find=lambda: Finding(status=HealthStatus(next(found)), message="so"),
        timeout_s=PATIENCE_S,
    )
    monitor = make_monitor(check)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            monitor.check_now()

    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "part is critical: so"),
        ("INFO", "part is healthy: so"),
    ]


def test_a_component_is_added_once(make_monitor):
    monitor = make_monitor(finds("healthy"))
    monitor.add_check(finds("warning", "own"))

    assert monitor.check_now().status == "warning"
    with pytest.raises(ConfigError, match="a health check of 'own' already"):
        monitor.add_check(finds("warning", "own"))


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_interval_or_time_out_that_is_none_is_refused(seconds):
    with pytest.raises(ConfigError, match="interval_s must be > 0"):
        HealthMonitor(interval_s=seconds)
    with pytest.raises(ConfigError, match="timeout_s of part must be > 0"):
        finds("healthy", timeout_s=seconds)
