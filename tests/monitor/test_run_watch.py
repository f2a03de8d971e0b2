"""What a run says of its load, its errors and how it fares."""

from __future__ import annotations

import pytest

from harness.clock import ManualClock
from harness.errors import CheckoutTimeoutError, TargetError
from harness.load.plan import ClosedPlan
from harness.load.runner import make_crew
from harness.load.underway import Failures, underway
from harness.monitor.run_health import RunHealth
from harness.monitor.run_watch import RunWatch
from harness.reports.live import (
    LiveAgent,
    LiveData,
    LiveErrors,
    LiveLoad,
    LivePool,
    LiveTimes,
)
from harness.settings import load_settings

CASE = "benchmarks/test_x.py::test_a"
NO_TIMES = LiveTimes(count=0)


def pool(name="p", *, in_use=1, size=4, waiting=0, connects=0, timeouts=0):
    return LivePool(
        name=name,
        in_use=in_use,
        idle=size - in_use,
        waiting=waiting,
        size=size,
        size_kept=4,
        size_max=4,
        utilization_rate=in_use * 25.0,
        checkouts_total=0,
        checkins_total=0,
        checkout_timeouts_total=timeouts,
        connection_errors_total=connects,
        leaks_total=0,
        opened_total=4,
        closed_total=0,
        checkout_wait=NO_TIMES,
        usage_time=NO_TIMES,
        connect_time=NO_TIMES,
    )


def load(completed):
    return LiveLoad(case=CASE, completed_total=completed)


def failed(count):
    return LiveErrors(total_errors=count)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def judge(clock):
    health = RunHealth(clock)

    def judge(**parts):
        if "pool" in parts:
            parts["pools"] = (parts.pop("pool"),)
        found = health.judge(LiveData(**parts))
        clock.advance(1.0)
        return found

    return judge


def test_nothing_seen_is_not_called_healthy(judge):
    assert judge() is None


def test_operations_that_complete_are_healthy_and_said_to_be_so(judge):
    judge(load=load(0))
    health = judge(load=load(1200))

    assert health.status == "healthy"
    said = health.components["operations"].message
    assert said == "1,200 operations of the last 10 s, none failed"


@pytest.mark.parametrize(
    ("completed", "failures", "status"),
    [(1000, 1, "warning"), (1000, 200, "unhealthy"), (0, 3, "critical")],
)
def test_failures_weigh_by_their_share(judge, completed, failures, status):
    judge(load=load(0))
    health = judge(load=load(completed), errors=failed(failures))

    assert health.status == health.components["operations"].status == status
    assert f"{failures} of" in health.components["operations"].message


def test_what_failed_before_the_window_is_over(judge):
    judge(load=load(0))
    assert judge(load=load(10), errors=failed(5)).status == "unhealthy"
    for second in range(12):
        health = judge(load=load(20 + second), errors=failed(5))

    assert health.status == "healthy"


def test_loads_one_after_another_add_up(judge):
    judge(load=load(5000))
    judge(load=load(5010))
    judge(load=load(7))
    between = judge(errors=failed(1))
    health = judge(load=load(20), errors=failed(1))

    assert between.status == "warning"
    assert health.components["operations"].details == {"completed": 37, "failed": 1}


def test_failed_connects_are_seen_and_pass(judge):
    judge(pool=pool())
    down = judge(pool=pool(size=0, in_use=0, connects=3))
    assert down.status == "critical"
    assert down.components["connection_pool"].message == (
        "no connection is open: 3 connects failed in the last 10 s"
    )
    assert judge(pool=pool(size=2, connects=3)).status == "unhealthy"
    assert judge(pool=pool(size=4, connects=3)).status == "warning"
    for _ in range(12):
        health = judge(pool=pool(connects=3))

    assert health.status == "healthy"


def test_a_full_pool_is_a_warning_only_while_callers_wait(judge):
    assert judge(pool=pool(in_use=4)).status == "healthy"
    assert judge(pool=pool(in_use=4, waiting=2)).status == "warning"
    assert judge(pool=pool(timeouts=1)).status == "warning"


def test_each_of_several_pools_has_its_own_part(judge):
    health = judge(pools=(pool("a"), pool("b", in_use=4, waiting=1)))

    assert {name: part.status for name, part in health.components.items()} == {
        "connection_pool a": "healthy",
        "connection_pool b": "warning",
    }


def test_an_agent_is_judged_by_its_answers(judge):
    judge(agents=(LiveAgent(name="stub"),))
    asked = LiveAgent(name="stub", requests_total=10, errors_total=10)
    health = judge(agents=(asked,))

    assert health.components["agent stub"].status == "critical"


def test_errors_of_a_load_come_by_category_with_the_last_ones(clock, monkeypatch):
    failures = Failures(clock)
    monkeypatch.setattr("harness.load.crew.FAILURES", failures)
    failures.note(ValueError("of an earlier run"))
    clock.advance(1.0)
    watch = RunWatch(clock=clock, failures=failures)
    raised = iter(
        [
            CheckoutTimeoutError(
                pool_name="p", waited_s=1, in_use=4, size_max=4, waiting=2
            ),
            TargetError("connect refused", sqlstate="28P01"),
            ConnectionResetError("reset by peer"),
            None,
        ]
    )
    seen = []

    def operate(_context):
        clock.advance(0.5)
        error = next(raised)
        if error is not None:
            raise error
        seen.append(watch.completed(LiveData(), case=CASE))

    crew = make_crew(
        ClosedPlan(operation=operate, workers=1, count=4), rank=0, clock=clock
    )
    watch.completed(LiveData(), case=None)
    with underway(crew, failures=failures):
        crew.run(clock.monotonic_ns)

    (data,) = seen
    assert data.errors.error_counts_by_category == {
        "database_timeout": 1,
        "authentication": 1,
        "network": 1,
    }
    assert data.errors.total_errors == data.load.errors_total == 3
    newest, *_, oldest = data.errors.recent_errors
    assert (newest.message, newest.operation) == (
        "reset by peer",
        "ConnectionResetError",
    )
    assert oldest.category == "database_timeout"
    assert "earlier" not in str(data.errors)
    assert (data.load.case, data.load.workers, data.load.in_flight) == (CASE, 1, 1)
    assert data.health.components["operations"].status == "critical"


def test_errors_of_a_run_are_still_told_between_two_loads(clock):
    failures = Failures(clock)
    watch = RunWatch(clock=clock, failures=failures)
    failures.note(OSError("disk"))

    data = watch.completed(LiveData(), case=None)

    assert data.load is None
    assert data.errors.error_counts_by_category == {"system": 1}


def test_no_secret_is_told_with_an_error(clock, tmp_path):
    load_settings(
        environ={"LAKEBASE_PASSWORD": "a-canary-of-errors"},
        cwd=tmp_path,
        root=tmp_path,
        check=False,
    )
    failures = Failures(clock)
    watch = RunWatch(clock=clock, failures=failures)
    failures.note(OSError("refused: a-canary-of-errors"))

    (error,) = watch.completed(LiveData(), case=None).errors.recent_errors
    assert error.message == "refused: ***"
