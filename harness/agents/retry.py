"""The one retry layer: full jitter, Retry-After, a budget and a total deadline.

It decides and never sleeps, so that threads and event loops share every rule; the
loop around it is `while True: try attempt, except: sleep what after() says`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.agents.errors import (
    AgentAuthError,
    AgentCallError,
    AgentCircuitOpenError,
    AgentConnectionError,
    AgentNotReadyError,
    AgentRateLimitedError,
    AgentServerError,
    AgentTimeoutError,
    Attempt,
)
from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from random import Random

    from harness.agents.deadline import Deadline
    from harness.agents.overload import CircuitBreaker
    from harness.clock import Clock
    from harness.retry_budget import RetryBudget

BACKOFF_BASE_S = 0.5
# Refused before any work was done: safe and useful to ask again.
_RETRYABLE = (AgentConnectionError, AgentNotReadyError, AgentRateLimitedError)
# Asked again once only: the agent's own code may fail the same way each time.
_RETRYABLE_ONCE_STATUS = (500, 502)
# What a breaker counts: signs of an endpoint in trouble, not of a wrong question.
_TROUBLE = (*_RETRYABLE, AgentServerError, AgentTimeoutError)
_UNAUTHORIZED = 401
_OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often and how long to try again.

    Attributes:
        max_retries: Requests after the first; 0 sends exactly one.
        delay_max_s: Cap of the back-off, which is drawn from 0 up to
            0.5 s, 1 s, 2 s ... (full jitter).
        retry_timeouts: Whether a 504, a 408 and a silent connection are tried again
            too. Such a question may still be worked on: asking again doubles the
            load and the bill.
    """

    max_retries: int = 0
    delay_max_s: float = 30.0
    retry_timeouts: bool = False

    def __post_init__(self) -> None:
        if self.max_retries < 0 or self.delay_max_s < 0:
            msg = (
                "max_retries and delay_max_s must be >= 0, got "
                f"{self.max_retries} and {self.delay_max_s}"
            )
            raise ConfigError(msg)


class Course:
    """The attempts of one call.

    Args:
        policy: How often and how long.
        deadline: When the whole call must be over. A wait that would end after it
            is not begun: the error is raised at once and says so.
        clock: Times the attempts.
        random: Source of the jitter.
        budget: Where retries come from; None for no limit.
        breaker: Asked before every request, if there is one.
        renewable: Whether a refused token may be replaced by another, once.
    """

    def __init__(
        self,
        *,
        policy: RetryPolicy,
        deadline: Deadline,
        clock: Clock,
        random: Random,
        budget: RetryBudget | None = None,
        breaker: CircuitBreaker | None = None,
        renewable: bool = False,
        asked: str | None = None,
    ) -> None:
        self.must_renew = False
        self._policy = policy
        self._deadline = deadline
        self._clock = clock
        self._random = random
        self._budget = budget
        self._breaker = breaker
        self._failed: list[Attempt] = []
        self._retries = 0
        self._renewable = renewable
        self._asked = asked
        self._sent_ns = 0
        if budget is not None:
            budget.earn()

    def before(self) -> None:
        """Begin an attempt.

        Raises:
            AgentCircuitOpenError: If the endpoint is to be left alone.
        """
        if self._breaker is not None:
            wait_s = self._breaker.closed_in_s()
            if wait_s:
                msg = (
                    "not sent: the endpoint failed again and again; "
                    f"the next request may try in {wait_s:.1f} s"
                )
                error = AgentCircuitOpenError(msg, retry_after_s=wait_s)
                error.attempts = tuple(self._failed)
                error.asked = self._asked
                raise error
        self._sent_ns = self._clock.monotonic_ns()

    def after(self, error: AgentCallError, *, has_content: bool) -> float:
        """Return how long to wait before the next attempt, in seconds.

        Args:
            error: How the last attempt failed.
            has_content: Whether any text of the answer had come.

        Raises:
            AgentCallError: *error*, with every attempt, if there is no next one.
        """
        self.must_renew = False
        self._note_trouble(error)
        wait_s, why_not = self._decide(error, has_content=has_content)
        reason = _reason(error)
        if why_not is None:
            if error.retry_after_s is not None:
                reason = f"{reason}; waited as Retry-After asked"
            self._failed.append(self._attempt(error, wait_s, reason))
            return wait_s
        error.attempts = (*self._failed, self._attempt(error, 0.0, reason))
        if why_not:
            error.explain(f"not tried again: {why_not}")
        raise error

    def gave_up(self, error: AgentCallError) -> None:
        """Note a failure after the first text: nothing follows it."""
        self._note_trouble(error)
        reason = _reason(error)
        error.attempts = (*self._failed, self._attempt(error, 0.0, reason))

    def succeeded(self) -> tuple[Attempt, ...]:
        """Return every attempt, the answered one last."""
        if self._breaker is not None:
            self._breaker.succeeded()
        took_s = (self._clock.monotonic_ns() - self._sent_ns) / NS_PER_S
        answered = Attempt(error=None, status=_OK, reason="answered", took_s=took_s)
        return (*self._failed, answered)

    def _decide(
        self, error: AgentCallError, *, has_content: bool
    ) -> tuple[float, str | None]:
        """Return (wait, None), or why not; "" where the error says it itself."""
        refused = isinstance(error, AgentAuthError) and error.status == _UNAUTHORIZED
        if refused and self._renewable and not has_content:
            # No retry of the policy's: the same request with another token.
            self._renewable, self.must_renew = False, True
            return 0.0, None
        if has_content or not self._may_repeat(error):
            return 0.0, ""
        if self._retries >= self._policy.max_retries:
            used = f"all {self._retries} retries are used up" if self._retries else ""
            return 0.0, used
        wait_s = error.retry_after_s
        if wait_s is None:
            ceiling_s = BACKOFF_BASE_S * 2.0 ** min(self._retries, 60)
            wait_s = self._random.uniform(0.0, min(self._policy.delay_max_s, ceiling_s))
        why_not = self._no_room_for(wait_s)
        if why_not is None:
            self._retries += 1
        return wait_s, why_not

    def _no_room_for(self, wait_s: float) -> str | None:
        """Say why a wait is not begun; None if it may be."""
        left_s = max(0.0, self._deadline.remaining_s())
        if wait_s >= left_s:
            return f"a wait of {wait_s:.3g} s does not fit the {left_s:.3g} s left"
        if self._budget is not None and not self._budget.spend():
            return "the retry budget (10 % of the requests) is used up"
        return None

    def _may_repeat(self, error: AgentCallError) -> bool:
        if isinstance(error, _RETRYABLE):
            return True
        if isinstance(error, AgentTimeoutError):
            return self._policy.retry_timeouts
        return (
            isinstance(error, AgentServerError)
            and error.status in _RETRYABLE_ONCE_STATUS
            and all(attempt.status != error.status for attempt in self._failed)
        )

    def _note_trouble(self, error: AgentCallError) -> None:
        error.asked = self._asked
        if self._breaker is None:
            return
        if isinstance(error, _TROUBLE):
            self._breaker.failed()
        elif error.status is not None:
            self._breaker.succeeded()  # it answered, if only with a refusal

    def _attempt(self, error: AgentCallError, wait_s: float, reason: str) -> Attempt:
        return Attempt(
            error=type(error).__name__,
            status=error.status,
            wait_s=wait_s,
            reason=reason,
            took_s=(self._clock.monotonic_ns() - self._sent_ns) / NS_PER_S,
        )


def _reason(error: AgentCallError) -> str:
    """Say what happened in codes only: what a server writes may be anything."""
    parts = (str(error.status or "no response"), error.error_code or "")
    return " ".join(part for part in parts if part)
