"""Tried again: what passes, within a deadline and a budget. Never: what may be done."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg
import pytest
from psycopg import errors

from harness.clock import ManualClock
from harness.errors import (
    Classification,
    ConfigError,
    CredentialError,
    OutcomeUnknownError,
    TargetError,
    Verdict,
)
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.retry_budget import RetryBudget

LIMITED = Classification("rate_limiting", "medium", Verdict.RETRYABLE)


class Flaky:
    """Fails with each of *failures* in turn, then returns "done"."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


class Recorded(ManualClock):
    """A clock that keeps what it was asked to sleep."""

    def __init__(self):
        super().__init__()
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        super().sleep(seconds)


@pytest.fixture
def clock():
    return Recorded()


@pytest.fixture
def make_recovery(clock):
    def make(**policy):
        return Recovery(
            RetryPolicy(**policy), budget=RetryBudget(), clock=clock, random=Random(1)
        )

    return make


@pytest.mark.parametrize(
    "failure",
    [
        errors.SerializationFailure(),
        errors.DeadlockDetected(),
        errors.TooManyConnections(),
        TargetError("x", sqlstate="57P03"),
        ConnectionRefusedError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_passes_is_tried_again(make_recovery, failure):
    operation, attempts = Flaky(failure, failure), []
    assert make_recovery().call(operation, attempts=attempts) == "done"
    assert operation.calls == 3
    assert [attempt.error for attempt in attempts] == [type(failure).__name__] * 2
    assert all(attempt.wait_s > 0 for attempt in attempts)


@pytest.mark.parametrize(
    "failure",
    [
        errors.UniqueViolation(),
        errors.InvalidPassword(),
        errors.UndefinedTable(),
        errors.QueryCanceled(),
        TargetError("x", sqlstate="28P01"),
        ConfigError("x"),
        ZeroDivisionError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_what_lasts_is_not_tried_again(make_recovery, clock, failure):
    """A wrong password, the originals tried four times."""
    operation = Flaky(failure)
    with pytest.raises(type(failure)) as caught:
        make_recovery().call(operation)
    assert caught.value is failure
    assert operation.calls == 1
    assert clock.slept == []


@pytest.mark.parametrize(
    "failure", [psycopg.OperationalError("lost"), errors.AdminShutdown()]
)
def test_lost_answer_is_never_repeated_silently(make_recovery, failure):
    operation = Flaky(failure)
    with pytest.raises(OutcomeUnknownError, match="may or may not") as caught:
        make_recovery().call(operation, name="pay")
    assert operation.calls == 1
    assert caught.value.__cause__ is failure
    assert caught.value.attempts[-1].verdict is Verdict.OUTCOME_UNKNOWN

    again = Flaky(failure)
    assert make_recovery().call(again, idempotent=True) == "done"


def test_waits_are_decorrelated_and_bounded(make_recovery, clock):
    recovery = make_recovery(retries_max=9, delay_min_s=0.1, delay_max_s=2.0)
    recovery.call(Flaky(*[errors.DeadlockDetected() for _ in range(9)]))

    before_s = 0.1
    for waited_s in clock.slept:
        assert 0.1 <= waited_s <= min(2.0, 3 * before_s)
        before_s = waited_s
    assert len(set(clock.slept)) > 3
    other = Recorded()
    Recovery(recovery.policy, budget=RetryBudget(), clock=other, random=Random(2)).call(
        Flaky(*[errors.DeadlockDetected() for _ in range(9)])
    )
    assert other.slept != clock.slept


def test_retry_after_is_honoured_where_it_fits(make_recovery, clock):
    failure = CredentialError("slow", classification=LIMITED, retry_after_s=7.0)
    make_recovery(deadline_s=10.0).call(Flaky(failure))
    assert clock.slept == [7.0]


def test_retry_after_beyond_the_deadline_fails_at_once(make_recovery, clock):
    failure = CredentialError("slow", classification=LIMITED, retry_after_s=600.0)
    with pytest.raises(CredentialError):
        make_recovery(deadline_s=10.0).call(Flaky(failure))
    assert clock.slept == []


def test_deadline_bounds_tries_and_waits_together(make_recovery, clock):
    def slow():
        clock.advance(4.0)
        raise errors.DeadlockDetected

    with pytest.raises(errors.DeadlockDetected) as caught:
        make_recovery(retries_max=99, deadline_s=10.0).call(slow, name="pay")
    # No try begins after the deadline; the last one may end after it.
    assert clock.monotonic_ns() < 14e9
    assert "pay: 3 attempts failed" in caught.value.__notes__[0]


def test_budget_holds_retries_to_a_tenth_in_an_outage(clock):
    budget = RetryBudget(ratio=0.1, burst=10)
    tries = [0]

    def down():
        tries[0] += 1
        raise errors.TooManyConnections

    recovery = Recovery(budget=budget, clock=clock, random=Random(1))
    for _ in range(1000):
        with pytest.raises(errors.TooManyConnections):
            recovery.call(down)
    assert 1100 <= tries[0] <= 1000 * 1.1 + 10


def test_budget_is_exact_among_threads():
    budget = RetryBudget(ratio=0.0, burst=100)
    barrier = threading.Barrier(8)

    def spend(_index):
        barrier.wait()
        return sum(budget.spend() for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(spend, range(8))) == 100


def test_tasks_are_tried_again_without_blocking_the_loop():
    recovery = Recovery(
        RetryPolicy(delay_min_s=0.001, delay_max_s=0.01), budget=RetryBudget()
    )
    operation = Flaky(errors.DeadlockDetected())

    async def work():
        return operation()

    assert asyncio.run(recovery.call_async(work)) == "done"
    assert operation.calls == 2

    async def lose():
        raise psycopg.OperationalError

    with pytest.raises(OutcomeUnknownError):
        asyncio.run(recovery.call_async(lose))


def test_cancelled_task_is_not_tried_again():
    calls = []

    async def work():
        calls.append(1)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Recovery(budget=RetryBudget()).call_async(work))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"retries_max": -1},
        {"delay_min_s": 0.0},
        {"delay_max_s": 0.01},
        {"deadline_s": 0},
    ],
    ids=str,
)
def test_impossible_policy_is_refused(policy):
    with pytest.raises(ConfigError, match=next(iter(policy))):
        RetryPolicy(**policy)
