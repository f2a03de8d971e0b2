"""What goes wrong, counted and kept: `ErrorHandler` and the errors users know."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast

from harness.clock import NS_PER_MS, SYSTEM_CLOCK, Clock
from harness.errors import (
    Classification,
    ErrorCategory,
    HarnessError,
    Severity,
    Verdict,
)
from harness.lakebase.classify import classify
from harness.postgres.recovery import retry_after_s
from harness.settings.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

logger = logging.getLogger(__name__)
_LEVELS = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}
HISTORY_MAX = 1000
RECENT_MAX = 10
RETRIES_MAX = 3
DELAY_BASE_S = 1.0
DELAY_MAX_S = 60.0
RATE_LIMIT_FACTOR = 5.0
JITTER_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorContext:
    """One failure with what was known of it.

    Attributes:
        timestamp: When it was handled.
        category: What kind it was.
        severity: How bad it is.
        error_code: The server's SQLSTATE, or the service's code, or the class name.
        message: Its text, without secrets.
        details: What the caller added.
        operation: What failed.
        duration_ms: How long it had taken; None where nobody measured.
        retry_count: Tries before this one.
        recoverable: Whether it may be tried again.
        verdict: The same in full: "outcome_unknown" is not recoverable, and yet not
            the same as permanent.
        retry_after_s: How long the service asks to wait, in seconds.
    """

    timestamp: datetime
    category: ErrorCategory
    severity: Severity
    error_code: str
    message: str
    operation: str
    verdict: Verdict
    recoverable: bool
    details: dict[str, Any] = field(default_factory=dict)
    duration_ms: float | None = None
    retry_count: int = 0
    retry_after_s: float | None = None


class ErrorHandler:
    """Classifies failures, counts them by category, and keeps the latest.

    Safe to use from many threads.

    Args:
        clock: Dates them.
        random: Source of the jitter of delays.
    """

    def __init__(
        self, *, clock: Clock = SYSTEM_CLOCK, random: Random | None = None
    ) -> None:
        self._clock = clock
        self._random = random or SystemRandom()
        self._lock = threading.Lock()
        self._total = 0
        self._counts: Counter[ErrorCategory] = Counter()
        self._history: deque[ErrorContext] = deque(maxlen=HISTORY_MAX)

    def handle_exception(
        self,
        error: BaseException,
        *,
        operation: str = "unknown",
        duration_ms: float | None = None,
        retry_count: int = 0,
        details: dict[str, Any] | None = None,
    ) -> ErrorContext:
        """Note a failure and say what it means.

        Args:
            error: What was raised.
            operation: What failed.
            duration_ms: How long it had taken, in milliseconds.
            retry_count: Tries before this one.
            details: Anything else worth keeping; no secrets.
        """
        found = classify(error)
        code = getattr(error, "sqlstate", None) or getattr(error, "error_code", None)
        context = ErrorContext(
            timestamp=self._clock.now(),
            category=found.category,
            severity=found.severity,
            error_code=str(code or type(error).__name__),
            message=redact(str(error)),
            operation=operation,
            verdict=found.verdict,
            recoverable=found.verdict is Verdict.RETRYABLE,
            details=dict(details or {}),
            duration_ms=duration_ms,
            retry_count=retry_count,
            retry_after_s=retry_after_s(error),
        )
        with self._lock:
            self._total += 1
            self._counts[found.category] += 1
            self._history.append(context)
        logger.log(
            _LEVELS[found.severity],
            "%s failed (%s)",
            operation,
            context.error_code,
            extra={
                "operation": operation,
                "duration_ms": duration_ms,
                "category": str(found.category),
                "attempt": retry_count + 1,
                "severity": str(found.severity),
            },
        )
        return context

    def get_error_summary(self) -> dict[str, Any]:
        """Return total, counts by category, and the latest ten."""
        with self._lock:
            recent = list(self._history)[-RECENT_MAX:]
            return {
                "total_errors": self._total,
                "error_counts_by_category": {
                    str(category): count for category, count in self._counts.items()
                },
                "recent_errors": [
                    {**asdict(context), "timestamp": context.timestamp.isoformat()}
                    for context in recent
                ],
            }

    def should_retry(
        self, context: ErrorContext, *, max_retries: int = RETRIES_MAX
    ) -> bool:
        """Whether to try again: it may be, and has not been too often."""
        return context.recoverable and context.retry_count < max_retries

    def get_retry_delay(self, context: ErrorContext) -> float:
        """Return how long to wait first, in seconds.

        What the service asks for; else 1, 2, 4 ... s, five times as long where the
        rate is limited, with up to a tenth more at random, 60 s at most.
        """
        if context.retry_after_s is not None:
            return context.retry_after_s
        delay_s: float = DELAY_BASE_S * 2**context.retry_count
        if context.category is ErrorCategory.RATE_LIMITING:
            delay_s *= RATE_LIMIT_FACTOR
        delay_s *= 1 + JITTER_SHARE * self._random.random()
        return min(DELAY_MAX_S, delay_s)


ERROR_HANDLER = ErrorHandler()


def handle_error(error: BaseException, **known: Any) -> ErrorContext:
    """Note a failure with the handler of this process; see `handle_exception`."""
    return ERROR_HANDLER.handle_exception(error, **known)


def with_error_handling(
    operation: str, *, handler: ErrorHandler = ERROR_HANDLER
) -> Callable[[Callable[Parameters, Value]], Callable[Parameters, Value]]:
    """Return a decorator that notes what a function raises, and lets it pass.

    Works on coroutine functions too. The exception is the one that was raised: its
    class is what callers catch it by.

    Args:
        operation: What the function does, for the record.
        handler: Keeps the record.
    """

    def decorate(function: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
        def note(error: Exception, started_ns: int) -> None:
            took_ns = SYSTEM_CLOCK.monotonic_ns() - started_ns
            handler.handle_exception(
                error, operation=operation, duration_ms=took_ns / NS_PER_MS
            )

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def noted_async(
                *args: Parameters.args, **kwargs: Parameters.kwargs
            ) -> Any:
                started_ns = SYSTEM_CLOCK.monotonic_ns()
                try:
                    return await cast("Awaitable[Any]", function(*args, **kwargs))
                except Exception as error:
                    note(error, started_ns)
                    raise

            return cast("Callable[Parameters, Value]", noted_async)

        @functools.wraps(function)
        def noted(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
            started_ns = SYSTEM_CLOCK.monotonic_ns()
            try:
                return function(*args, **kwargs)
            except Exception as error:
                note(error, started_ns)
                raise

        return noted

    return decorate


class LakebaseException(HarnessError):  # noqa: N818 - the name users know
    """Base of the errors that applications raise by category.

    Args:
        message: What happened; no secrets.
        recoverable: Whether it may be tried again, where that differs from the rule.
    """

    default: ClassVar = Classification(
        ErrorCategory.UNKNOWN, Severity.MEDIUM, Verdict.PERMANENT
    )

    def __init__(self, message: str, *, recoverable: bool | None = None) -> None:
        self.classification = self.default
        if recoverable is not None:
            verdict = Verdict.RETRYABLE if recoverable else Verdict.PERMANENT
            self.classification = self.default._replace(verdict=verdict)
        super().__init__(message)


class DatabaseConnectionError(LakebaseException):
    """No connection could be made, or it was lost."""

    default = Classification(
        ErrorCategory.DATABASE_CONNECTION, Severity.HIGH, Verdict.RETRYABLE
    )


class DatabaseQueryError(LakebaseException):
    """A statement failed."""

    default = Classification(
        ErrorCategory.DATABASE_QUERY, Severity.MEDIUM, Verdict.PERMANENT
    )


class DatabaseTimeoutError(LakebaseException):
    """Something took too long."""

    default = Classification(
        ErrorCategory.DATABASE_TIMEOUT, Severity.HIGH, Verdict.RETRYABLE
    )


class AuthenticationError(LakebaseException):
    """The identity was not accepted."""

    default = Classification(
        ErrorCategory.AUTHENTICATION, Severity.CRITICAL, Verdict.PERMANENT
    )


class RateLimitError(LakebaseException):
    """Asked too often."""

    default = Classification(
        ErrorCategory.RATE_LIMITING, Severity.MEDIUM, Verdict.RETRYABLE
    )


class ConfigurationError(LakebaseException):
    """A setting is wrong."""

    default = Classification(
        ErrorCategory.CONFIGURATION, Severity.CRITICAL, Verdict.PERMANENT
    )
