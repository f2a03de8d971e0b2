"""Every error the harness raises; catch `HarnessError` to catch them all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class ErrorCategory(StrEnum):
    """What went wrong, in the eleven words of reports, metrics and logs."""

    DATABASE_CONNECTION = "database_connection"
    DATABASE_QUERY = "database_query"
    DATABASE_TIMEOUT = "database_timeout"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    CONFIGURATION = "configuration"
    NETWORK = "network"
    RATE_LIMITING = "rate_limiting"
    SYSTEM = "system"
    VALIDATION = "validation"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad it is, from what heals by itself to what needs a person now."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """Whether the operation that failed may be tried again.

    `OUTCOME_UNKNOWN` is neither: the server may have done the work, as when the
    answer to a commit is lost. Whoever repeats it may do it twice.
    """

    RETRYABLE = "retryable"
    PERMANENT = "permanent"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Classification(NamedTuple):
    """What kind of failure it was, how bad it is, and whether to try again."""

    category: ErrorCategory
    severity: Severity
    verdict: Verdict


class HarnessError(Exception):
    """Base class: catch this to catch everything the harness raises.

    Its message is written for the person at the terminal: it names the setting
    or the part, the value, and what to do next. It never holds a secret.
    """

    __module__ = "harness"


class ConfigError(HarnessError, ValueError):
    """A setting is missing, misspelt or impossible; no work has started."""

    __module__ = "harness"


class TargetError(HarnessError):
    """The server that was asked for cannot be provided or reached.

    Attributes:
        sqlstate: The server's own code for a refused login; None where it gave
            none, as when nothing answers.
        classification: What kind of failure it is, where whoever raised it knows
            more than the code tells. Its verdict tells a refusal that will last
            (wrong password) from one that may pass (server starting up).
    """

    __module__ = "harness"

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str | None = None,
        classification: Classification | None = None,
    ) -> None:
        self.sqlstate = sqlstate
        self.classification = classification
        super().__init__(message)


class CredentialError(HarnessError):
    """No usable credential could be obtained for a server.

    Attributes:
        classification: What kind of failure it is; None means a refused identity.
        retry_after_s: How long the service asks to wait, in seconds; None where it
            does not say.
    """

    __module__ = "harness"

    def __init__(
        self,
        message: str,
        *,
        classification: Classification | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.classification = classification
        self.retry_after_s = retry_after_s
        super().__init__(message)


class CheckoutTimeoutError(HarnessError, TimeoutError):
    """No connection became free within the checkout timeout.

    Attributes:
        pool_name: Name of the pool.
        waited_s: How long the caller waited, in seconds.
        size: Connections open when the wait ended; None where it is not known.
        size_max: Hard upper bound on open connections.
        in_use: Connections checked out when the wait ended.
        waiting: Callers queued when the wait ended, this one included; None
            where the engine does not tell.
        failure: Why the latest connect failed; None if it did not.
    """

    __module__ = "harness"

    def __init__(
        self,
        *,
        pool_name: str,
        waited_s: float,
        size_max: int,
        in_use: int,
        waiting: int | None,
        size: int | None = None,
        failure: Exception | None = None,
    ) -> None:
        self.pool_name = pool_name
        self.waited_s = waited_s
        self.size = size
        self.size_max = size_max
        self.in_use = in_use
        self.waiting = waiting
        self.failure = failure
        super().__init__(
            f"no connection from pool {pool_name!r} after {waited_s:.3f} s "
            f"({'' if size is None else f'size={size}, '}"
            f"size_max={size_max}, in_use={in_use}, "
            f"waiting={'unknown' if waiting is None else waiting})"
            f"{f'; the latest connect failed: {failure}' if failure else ''}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryAttempt:
    """One failed attempt of an operation.

    Attributes:
        error: Class name of the exception.
        sqlstate: The server's code, if it gave one.
        category: What kind of failure it was.
        verdict: Whether it might be tried again.
        duration_s: How long the attempt took, in seconds.
        wait_s: The wait that followed, in seconds; 0 after the last.
    """

    error: str
    sqlstate: str | None
    category: ErrorCategory
    verdict: Verdict
    duration_s: float
    wait_s: float


class OutcomeUnknownError(HarnessError):
    """An operation may have been done: the answer to it was lost.

    Whoever repeats it may do it twice, so nothing here does. Its cause is the failure.

    Attributes:
        operation: What it is called.
        cause: Class name of the failure.
        attempts: Every attempt of it, the lost one last.
    """

    __module__ = "harness"

    def __init__(
        self, operation: str, *, cause: str, attempts: tuple[RetryAttempt, ...] = ()
    ) -> None:
        self.operation = operation
        self.cause = cause
        self.attempts = attempts
        self.classification = Classification(
            ErrorCategory.DATABASE_CONNECTION, Severity.HIGH, Verdict.OUTCOME_UNKNOWN
        )
        super().__init__(
            f"{operation} may or may not have been done ({cause}): look before you "
            "repeat it"
        )


class LoadError(HarnessError):
    """A load run could not be carried out as planned, so it is no result."""

    __module__ = "harness"


class WorkNotDoneError(HarnessError):
    """The check after a run found that the work it timed was not really done."""

    __module__ = "harness"


class ReportError(HarnessError):
    """A saved report cannot be read, or cannot be compared with another."""

    __module__ = "harness"


class AgentError(HarnessError):
    """An agent endpoint did not give a usable answer."""

    __module__ = "harness"


class SparkError(HarnessError):
    """Spark, its Java runtime or Delta's jars cannot be provided."""

    __module__ = "harness"
