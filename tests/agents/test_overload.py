"""What keeps a struggling endpoint from being asked even more."""

from __future__ import annotations

import pytest

from harness.agents.overload import CircuitBreaker, process_budget
from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.retry_budget import RetryBudget


def test_budget_allows_its_burst_and_then_its_share():
    budget = RetryBudget(ratio=0.1, burst=10)
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 100 <= spent <= 110


def test_budget_saves_up_no_more_than_its_burst():
    budget = RetryBudget(ratio=0.1, burst=3)
    for _ in range(1000):
        budget.earn()
    assert sum(budget.spend() for _ in range(10)) == 3


def test_budget_is_shared_by_the_clients_of_an_endpoint():
    assert process_budget("a") is process_budget("a")
    assert process_budget("a") is not process_budget("b")


def open_breaker(clock):
    breaker = CircuitBreaker(failures_max=3, open_s=5.0, clock=clock)
    for _ in range(3):
        assert breaker.closed_in_s() == 0.0
        breaker.failed()
    return breaker


def test_breaker_opens_after_failures_in_a_row_and_says_for_how_long():
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(2.0)
    assert breaker.closed_in_s() == 3.0


def test_breaker_lets_one_caller_try_after_its_time():
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(5.0)
    assert breaker.closed_in_s() == 0.0
    assert breaker.closed_in_s() > 0.0, "the second caller waits for the first"


def test_breaker_closes_with_an_answer_and_stays_open_with_a_failure():
    clock = ManualClock()
    breaker = open_breaker(clock)
    clock.advance(5.0)
    breaker.closed_in_s()
    breaker.failed()
    assert breaker.closed_in_s() > 0.0
    clock.advance(5.0)
    breaker.closed_in_s()
    breaker.succeeded()
    assert breaker.closed_in_s() == breaker.closed_in_s() == 0.0


def test_success_between_failures_keeps_the_breaker_closed():
    breaker = CircuitBreaker(failures_max=2, clock=ManualClock())
    for _ in range(5):
        breaker.failed()
        breaker.succeeded()
    assert breaker.closed_in_s() == 0.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryBudget(ratio=2),
        lambda: RetryBudget(burst=-1),
        lambda: CircuitBreaker(failures_max=0),
        lambda: CircuitBreaker(open_s=0),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(ConfigError, match="must be"):
        make()
