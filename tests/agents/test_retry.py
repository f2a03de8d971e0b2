from __future__ import annotations

from random import Random

import pytest

from harness.agents import errors
from harness.agents.deadline import Deadline
from harness.agents.overload import CircuitBreaker
from harness.agents.retry import Course, RetryPolicy
from harness.clock import NS_PER_S, ManualClock
from harness.retry_budget import RetryBudget


class Call:
    """Fails with each of *failures* in turn, then answers."""

    def __init__(
        self, *failures, retries=3, delay_max_s=30.0, deadline_s=60.0, **options
    ):
        self.failures = list(failures)
        self.clock = ManualClock()
        self.sent = 0
        self.has_content = options.pop("has_content", False)
        policy = RetryPolicy(
            max_retries=retries,
            delay_max_s=delay_max_s,
            retry_timeouts=options.pop("retry_timeouts", False),
        )
        self.course = Course(
            policy=policy,
            deadline=Deadline(deadline_s, clock=self.clock),
            clock=self.clock,
            random=Random(1),
            **options,
        )

    def run(self):
        while True:
            self.course.before()
            self.sent += 1
            if not self.failures:
                return self.course.succeeded()
            error = self.failures.pop(0)
            wait_s = self.course.after(error, has_content=self.has_content)
            self.clock.sleep(wait_s)

    @property
    def waited_s(self):
        return self.clock.monotonic_ns() / NS_PER_S


def limited(retry_after_s=None):
    return errors.AgentRateLimitedError("m", status=429, retry_after_s=retry_after_s)


def test_zero_retries_send_exactly_one_request():
    call = Call(limited(), retries=0)
    with pytest.raises(errors.AgentRateLimitedError) as raised:
        call.run()
    assert call.sent == 1
    assert len(raised.value.attempts) == 1


def test_max_retries_counts_retries_not_attempts():
    """The original's 3 meant two retries, and 0 never asked at all."""
    call = Call(*(limited() for _ in range(9)), retries=3)
    with pytest.raises(errors.AgentRateLimitedError) as raised:
        call.run()
    assert call.sent == 4
    assert len(raised.value.attempts) == 4


def test_retry_after_is_waited_for():
    call = Call(limited(2.0), limited(3.0))
    call.run()
    assert call.waited_s == 5.0


def test_wait_that_does_not_fit_the_deadline_is_not_begun():
    call = Call(limited(90.0), deadline_s=60.0)
    with pytest.raises(errors.AgentRateLimitedError) as raised:
        call.run()
    assert call.sent == 1
    assert call.waited_s == 0.0
    assert raised.value.retry_after_s == 90.0


def test_back_off_is_full_jitter_below_its_cap():
    waits = []
    for retries in range(1, 9):
        call = Call(*(limited() for _ in range(retries)), retries=9, delay_max_s=2.0)
        call.run()
        waits.append(call.waited_s)
    steps = [b - a for a, b in zip([0.0, *waits], waits, strict=False)]
    assert all(
        0.0 <= step <= min(2.0, 0.5 * 2**index) for index, step in enumerate(steps)
    )
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (errors.AgentConnectionError("m"), 3),
        (errors.AgentNotReadyError("m", status=503), 3),
        (errors.AgentServerError("m", status=500), 2),
        (errors.AgentServerError("m", status=502), 2),
        (errors.AgentServerError("m", status=501), 1),
        (errors.AgentTimeoutError("m", status=504), 1),
        (errors.AgentTimeoutError("m"), 1),
        (errors.AgentAuthError("m", status=401), 1),
        (errors.AgentPermissionError("m", status=403), 1),
        (errors.AgentRequestError("m", status=400), 1),
        (errors.AgentStreamTruncatedError("m"), 1),
        (errors.AgentStreamError("m"), 1),
        (errors.AgentBadResponseError("m"), 1),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'status', value)}",
)
def test_only_what_did_no_work_is_sent_again(error, sent):
    call = Call(error, error, error, error, retries=2)
    with pytest.raises(type(error)):
        call.run()
    assert call.sent == sent


def test_attempts_before_an_answer_are_told(ask, wire):
    answer = ask(
        wire.whole("429 Too Many Requests", b"{}", headers=b"Retry-After: 0\r\n"),
        wire.events('{"type":"response.output_text.delta","delta":"a"}', "[DONE]"),
        max_retries=2,
    )
    told = [(a.error, a.status) for a in answer.attempts]
    assert told == [("AgentRateLimitedError", 429), (None, 200)]
    assert len(ask.server.requests) == 2


def test_nothing_is_sent_again_once_text_has_come():
    call = Call(errors.AgentConnectionError("m"), has_content=True)
    with pytest.raises(errors.AgentConnectionError):
        call.run()
    assert call.sent == 1


@pytest.mark.parametrize(
    "error",
    [errors.AgentTimeoutError("m", status=504), errors.AgentTimeoutError("silence")],
    ids=["504", "silence"],
)
def test_timeouts_are_sent_again_only_when_asked(error):
    call = Call(error, retries=2, retry_timeouts=True)
    call.run()
    assert call.sent == 2


def test_why_a_wait_was_not_begun_is_in_the_message():
    call = Call(limited(90.0), deadline_s=60.0)
    with pytest.raises(errors.AgentRateLimitedError, match="90 s does not fit the 60"):
        call.run()


def test_retries_stop_when_the_budget_is_used_up():
    budget = RetryBudget(ratio=0.0, burst=2)
    call = Call(*(limited(0.0) for _ in range(9)), retries=9, budget=budget)
    with pytest.raises(errors.AgentRateLimitedError, match="budget"):
        call.run()
    assert call.sent == 3


def test_refused_token_is_renewed_once_and_is_no_retry():
    refused = [errors.AgentAuthError("m", status=401) for _ in range(3)]
    call = Call(refused[0], retries=0, renewable=True)
    call.run()
    assert call.sent == 2
    call = Call(*refused, retries=5, renewable=True)
    with pytest.raises(errors.AgentAuthError) as raised:
        call.run()
    assert call.sent == 2
    assert len(raised.value.attempts) == 2


def test_open_breaker_sends_nothing():
    breaker = CircuitBreaker(failures_max=1, clock=ManualClock())
    call = Call(errors.AgentNotReadyError("m", status=503), retries=3, breaker=breaker)
    with pytest.raises(errors.AgentCircuitOpenError) as raised:
        call.run()
    assert call.sent == 1
    assert [a.error for a in raised.value.attempts] == ["AgentNotReadyError"]


def test_breaker_does_not_count_refusals_of_a_question():
    breaker = CircuitBreaker(failures_max=1, clock=ManualClock())
    call = Call(errors.AgentRequestError("m", status=400), breaker=breaker)
    with pytest.raises(errors.AgentRequestError):
        call.run()
    assert breaker.closed_in_s() == 0.0


def test_every_attempt_tells_status_wait_and_reason():
    call = Call(
        errors.AgentRateLimitedError(
            "m", status=429, error_code="REQUEST_LIMIT_EXCEEDED", retry_after_s=2.0
        ),
        errors.AgentConnectionError("m"),
    )
    first, second, last = call.run()
    assert (first.status, first.wait_s) == (429, 2.0)
    assert first.reason.startswith("429 REQUEST_LIMIT_EXCEEDED; waited as Retry-After")
    assert (second.status, second.reason) == (None, "no response")
    assert 0.0 <= second.wait_s <= 1.0
    assert (last.error, last.status, last.reason) == (None, 200, "answered")
