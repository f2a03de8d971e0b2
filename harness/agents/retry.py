"""The one retry layer: full jitter, Retry-After and a total deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agents.errors import (
    AgentCallError,
    AgentConnectionError,
    AgentNotReadyError,
    AgentRateLimitedError,
    AgentServerError,
    Attempt,
)
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tenacity import RetryCallState

    from harness.agents.answer import Answer
    from harness.clock import Clock

BACKOFF_BASE_S = 0.5
# Refused before any work was done: safe and useful to ask again.
_RETRYABLE = (AgentConnectionError, AgentNotReadyError, AgentRateLimitedError)
# Asked again once only: the agent's own code may fail the same way each time.
_RETRYABLE_ONCE_STATUS = (500, 502)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how long to try again.

    Attributes:
        max_retries: Requests after the first; 0 sends exactly one.
        delay_max_s: Cap of the back-off, which is drawn from 0 up to
            0.5 s, 1 s, 2 s ... (full jitter).
    """

    max_retries: int = 0
    delay_max_s: float = 30.0


def call_with_retries(
    attempt: Callable[[list[Attempt]], Answer],
    *,
    policy: RetryPolicy,
    deadline_ns: int,
    clock: Clock,
    random: Random,
) -> Answer:
    """Call *attempt* until it answers, may not be repeated, or time is up.

    Args:
        attempt: Sends one request; gets the failed attempts so far.
        policy: How often and how long.
        deadline_ns: When the whole call must be over. A wait that would end
            after it is not begun: the error is raised at once.
        clock: Measures and sleeps.
        random: Source of the jitter.

    Raises:
        AgentCallError: The last failure, with every attempt.
    """
    failed: list[Attempt] = []
    if policy.max_retries == 0:
        # Benchmarks: nothing between the caller and the request.
        try:
            return attempt(failed)
        except AgentCallError as error:
            error.attempts = (_attempt(error, 0.0),)
            raise

    from tenacity import Retrying, retry_if_exception

    def wait(state: RetryCallState) -> float:
        error = _error_of(state)
        if error.retry_after_s is not None:
            return error.retry_after_s
        ceiling_s = min(
            policy.delay_max_s, BACKOFF_BASE_S * 2 ** (state.attempt_number - 1)
        )
        return random.uniform(0.0, ceiling_s)

    def stop(state: RetryCallState) -> bool:
        wakes_ns = clock.monotonic_ns() + round(state.upcoming_sleep * NS_PER_S)
        return state.attempt_number > policy.max_retries or wakes_ns >= deadline_ns

    def remember(state: RetryCallState) -> None:
        failed.append(_attempt(_error_of(state), state.upcoming_sleep))

    retrying = Retrying(
        retry=retry_if_exception(lambda error: _may_repeat(error, failed)),
        wait=wait,
        stop=stop,
        sleep=clock.sleep,
        before_sleep=remember,
        reraise=True,
    )
    try:
        return retrying(attempt, failed)
    except AgentCallError as error:
        error.attempts = (*failed, _attempt(error, 0.0))
        raise


def _may_repeat(error: BaseException, failed: list[Attempt]) -> bool:
    if isinstance(error, _RETRYABLE):
        return True
    return (
        isinstance(error, AgentServerError)
        and error.status in _RETRYABLE_ONCE_STATUS
        and all(attempt.status != error.status for attempt in failed)
    )


def _error_of(state: RetryCallState) -> AgentCallError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, AgentCallError):
        msg = "only a failed attempt is waited for"
        raise TypeError(msg)
    return error


def _attempt(error: AgentCallError, wait_s: float) -> Attempt:
    return Attempt(error=type(error).__name__, status=error.status, wait_s=wait_s)
