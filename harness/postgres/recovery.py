"""Trying again: only what may be, within a deadline and a budget, and on record."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, OutcomeUnknownError, RetryAttempt, Verdict
from harness.postgres.classify import Phase
from harness.postgres.classify import classify as classify_postgres
from harness.retry_budget import RetryBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harness.errors import Classification

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Classify(Protocol):
    """Says what a failure means; `classify` of postgres or of lakebase."""

    def __call__(self, error: BaseException, *, phase: Phase) -> Classification:
        """Return category, severity and verdict."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often, how long and how patiently to try again.

    The wait before each try is drawn between `delay_min_s` and three times the wait
    before it (decorrelated jitter), at most `delay_max_s`.

    Attributes:
        retries_max: Tries after the first; 0 tries once.
        delay_min_s: Shortest wait, in seconds.
        delay_max_s: Longest wait, in seconds.
        deadline_s: Longest time for all tries and waits, in seconds. A wait that
            would end after it is not begun.
    """

    retries_max: int = 3
    delay_min_s: float = 0.05
    delay_max_s: float = 10.0
    deadline_s: float = 60.0

    def __post_init__(self) -> None:
        if self.retries_max < 0:
            msg = f"retries_max must be >= 0, got {self.retries_max}"
            raise ConfigError(msg)
        if not 0 < self.delay_min_s <= self.delay_max_s:
            msg = (
                "delay_min_s must be > 0 and <= delay_max_s, got "
                f"{self.delay_min_s} and {self.delay_max_s}"
            )
            raise ConfigError(msg)
        if self.deadline_s <= 0:
            msg = f"deadline_s must be > 0, got {self.deadline_s}"
            raise ConfigError(msg)


# What all operations of this process share unless told otherwise.
PROCESS_BUDGET = RetryBudget()


class Recovery:
    """Runs operations, and again those whose failure passes.

    Three things are never repeated: what fails for good, what would end after the
    deadline, and what may have been done already. The last raises
    `OutcomeUnknownError`, whoever called decides.

    Args:
        policy: How often and how long.
        classify: Says what a failure means.
        budget: Shared with whoever loads the same server.
        clock: Measures, and sleeps between tries of `call`.
        random: Source of the jitter; pass `random.Random(seed)` to repeat a run.
    """

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        *,
        classify: Classify = classify_postgres,
        budget: RetryBudget = PROCESS_BUDGET,
        clock: Clock = SYSTEM_CLOCK,
        random: Random | None = None,
    ) -> None:
        self.policy = policy or RetryPolicy()
        self.classify = classify
        self.budget = budget
        self.clock = clock
        self.random = random or SystemRandom()

    def call(
        self,
        operation: Callable[[], Value],
        *,
        name: str = "operation",
        phase: Phase | Callable[[], Phase] = Phase.STATEMENT,
        idempotent: bool = False,
        attempts: list[RetryAttempt] | None = None,
    ) -> Value:
        """Call *operation* until it returns, may not be repeated, or time is up.

        Args:
            operation: The work; must start from the beginning each time.
            name: What it is called in logs and errors.
            phase: How far it has come when it fails; see `Phase`.
            idempotent: Whether doing it twice is as good as once. Only then is a
                lost answer followed by another try.
            attempts: Every failed attempt is added to it, with its cause and the
                wait that followed.

        Raises:
            OutcomeUnknownError: It may have been done; its cause is the failure.
            Exception: The last failure, with a note of all attempts.
        """
        course = _Course(self, name, phase, attempts, idempotent=idempotent)
        retrying = Retrying(sleep=self.clock.sleep, **course.rules())
        try:
            value: Value = retrying(operation)
        except Exception as error:
            course.ended(error)
            raise
        course.succeeded()
        return value

    async def call_async(
        self,
        operation: Callable[[], Awaitable[Value]],
        *,
        name: str = "operation",
        phase: Phase | Callable[[], Phase] = Phase.STATEMENT,
        idempotent: bool = False,
        attempts: list[RetryAttempt] | None = None,
    ) -> Value:
        """Do what `call` does without blocking the event loop.

        Raises:
            OutcomeUnknownError: As `call`.
        """
        course = _Course(self, name, phase, attempts, idempotent=idempotent)
        retrying = AsyncRetrying(sleep=asyncio.sleep, **course.rules())
        try:
            value: Value = await retrying(operation)
        except Exception as error:
            course.ended(error)
            raise
        course.succeeded()
        return value


@dataclass
class _Course:
    """One operation with its tries."""

    recovery: Recovery
    name: str
    phase: Phase | Callable[[], Phase]
    attempts: list[RetryAttempt] | None
    idempotent: bool = field(kw_only=True)

    def __post_init__(self) -> None:
        self._policy = self.recovery.policy
        self._clock = self.recovery.clock
        self._started_ns = self._attempt_ns = self._clock.monotonic_ns()
        self._wait_s = self._policy.delay_min_s
        self._failed: list[RetryAttempt] = []
        self._found: Classification | None = None
        self.recovery.budget.earn()

    def rules(self) -> dict[str, Any]:
        """Return what tenacity asks at each failure."""
        return {
            "retry": retry_if_exception(self._may_repeat),
            "wait": self._wait,
            "stop": self._stop,
            "before_sleep": self._before_sleep,
            "reraise": True,
        }

    def succeeded(self) -> None:
        """Tell of an operation that needed more than one try."""
        if self._failed:
            logger.info(
                "%s succeeded after all",
                self.name,
                extra={
                    "operation": self.name,
                    "duration_ms": self._taken_ms(),
                    "attempt": len(self._failed) + 1,
                },
            )

    def ended(self, error: Exception) -> None:
        """Note the failure that ends it, and turn an unknown outcome into an error."""
        found = self._classify(error)
        self._note(error, found, wait_s=0.0)
        # A first try that fails for good is the caller's to tell: it has the error,
        # and such failures may come with every operation.
        is_worth_a_line = len(self._failed) > 1
        logger.log(
            logging.ERROR if is_worth_a_line else logging.DEBUG,
            "%s failed for good (%s)",
            self.name,
            type(error).__name__,
            extra={
                "operation": self.name,
                "duration_ms": self._taken_ms(),
                "category": str(found.category),
                "attempt": len(self._failed),
                "sqlstate": getattr(error, "sqlstate", None),
                "verdict": str(found.verdict),
            },
        )
        if len(self._failed) > 1:
            error.add_note(f"{self.name}: {describe(self._failed)}")
        if found.verdict is Verdict.OUTCOME_UNKNOWN and not isinstance(
            error, OutcomeUnknownError
        ):
            raise OutcomeUnknownError(
                self.name, cause=type(error).__name__, attempts=tuple(self._failed)
            ) from error

    def _taken_ms(self) -> float:
        taken_ns = self._clock.monotonic_ns() - self._started_ns
        return round(taken_ns / NS_PER_MS, 3)

    def _classify(self, error: BaseException) -> Classification:
        phase = self.phase if isinstance(self.phase, Phase) else self.phase()
        return self.recovery.classify(error, phase=phase)

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False  # Ctrl-C, a cancelled task
        verdict = self._classify(error).verdict
        return verdict is Verdict.RETRYABLE or (
            self.idempotent and verdict is Verdict.OUTCOME_UNKNOWN
        )

    def _wait(self, state: RetryCallState) -> float:
        asked_s = retry_after_s(_error_of(state))
        if asked_s is not None:
            return asked_s
        low, high = self._policy.delay_min_s, self._wait_s * 3
        self._wait_s = min(
            self._policy.delay_max_s, low + (high - low) * self.recovery.random.random()
        )
        return self._wait_s

    def _stop(self, state: RetryCallState) -> bool:
        if state.attempt_number > self._policy.retries_max:
            return True
        now_ns = self._clock.monotonic_ns()
        wakes_ns = now_ns + round(state.upcoming_sleep * NS_PER_S)
        if wakes_ns - self._started_ns >= self._policy.deadline_s * NS_PER_S:
            return True
        return not self.recovery.budget.spend()

    def _before_sleep(self, state: RetryCallState) -> None:
        error = _error_of(state)
        self._note(error, self._classify(error), wait_s=state.upcoming_sleep)
        attempt = self._failed[-1]
        logger.warning(
            "%s failed and is tried again",
            self.name,
            extra={
                "operation": self.name,
                "attempt": state.attempt_number,
                "category": str(attempt.category),
                "sqlstate": attempt.sqlstate,
                "duration_ms": round(attempt.duration_s * 1000, 3),
                "wait_ms": round(attempt.wait_s * 1000, 3),
            },
        )

    def _note(
        self, error: BaseException, found: Classification, *, wait_s: float
    ) -> None:
        now_ns = self._clock.monotonic_ns()
        attempt = RetryAttempt(
            error=type(error).__name__,
            sqlstate=getattr(error, "sqlstate", None),
            category=found.category,
            verdict=found.verdict,
            duration_s=(now_ns - self._attempt_ns) / NS_PER_S,
            wait_s=wait_s,
        )
        self._attempt_ns = now_ns + round(wait_s * NS_PER_S)
        self._failed.append(attempt)
        if self.attempts is not None:
            self.attempts.append(attempt)


def retry_after_s(error: BaseException) -> float | None:
    """Return how long a service asks to wait, in seconds; None if it does not say."""
    for name in ("retry_after_s", "retry_after_secs"):
        seconds = getattr(error, name, None)
        if isinstance(seconds, int | float):
            return float(seconds)
    return None


def describe(attempts: list[RetryAttempt]) -> str:
    """Return the failed attempts of an operation as one line."""
    parts = [
        f"{attempt.sqlstate or attempt.error} ({attempt.verdict})"
        + (f", waited {attempt.wait_s:.3f} s" if attempt.wait_s else "")
        for attempt in attempts
    ]
    return f"{len(attempts)} attempts failed: " + "; ".join(parts)


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        msg = "only a failed attempt is waited for"
        raise TypeError(msg)
    return error
