"""The surface of the originals' error handler, with the right answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
import sqlalchemy.exc
from databricks.sdk import errors as sdk
from psycopg import errors

from harness.clock import ManualClock
from harness.errors import ErrorCategory, Verdict
from harness.lakebase.classify import classify
from harness.lakebase.error_handling import (
    AuthenticationError,
    ConfigurationError,
    DatabaseConnectionError,
    DatabaseQueryError,
    DatabaseTimeoutError,
    ErrorHandler,
    RateLimitError,
    with_error_handling,
)


@pytest.fixture
def handler():
    return ErrorHandler(clock=ManualClock(), random=Random(1))


@pytest.mark.parametrize(
    ("error", "category", "recoverable"),
    [
        (errors.InvalidPassword(), "authentication", False),
        (errors.UniqueViolation(), "database_query", False),
        (errors.SerializationFailure(), "database_query", True),
        (errors.DeadlockDetected(), "database_query", True),
        (errors.TooManyConnections(), "database_connection", True),
        (errors.AdminShutdown(), "database_connection", False),
        (errors.QueryCanceled("due to user request"), "database_timeout", False),
        (errors.QueryCanceled("due to statement timeout"), "database_timeout", False),
        (sdk.TooManyRequests("x"), "rate_limiting", True),
        (sdk.ResourceExhausted("x"), "rate_limiting", True),
        (sdk.RequestLimitExceeded("x"), "rate_limiting", True),
        (sdk.PermissionDenied("x"), "authorization", False),
        (sdk.Unauthenticated("x"), "authentication", False),
        (sdk.TemporarilyUnavailable("x"), "system", True),
        (sdk.NotFound("x"), "configuration", False),
        (sdk.InvalidParameterValue("x"), "validation", False),
        (sdk.DeadlineExceeded("x"), "system", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_case_the_originals_got_wrong(handler, error, category, recoverable):
    context = handler.handle_exception(error)
    assert (context.category, context.recoverable) == (category, recoverable)
    assert handler.should_retry(context) is recoverable


def test_words_in_a_message_decide_nothing(handler):
    error = sdk.PermissionDenied("429 rate limit; connection timeout; password")
    assert handler.handle_exception(error).category is ErrorCategory.AUTHORIZATION


def test_error_wrapped_by_sqlalchemy_is_what_it_wraps():
    wrapped = sqlalchemy.exc.IntegrityError("s", {}, errors.UniqueViolation())
    assert classify(wrapped) == classify(errors.UniqueViolation())
    lost = sqlalchemy.exc.TimeoutError("QueuePool limit")
    assert classify(lost).verdict is Verdict.RETRYABLE


def test_summary_has_the_keys_and_the_last_ten(handler):
    for number in range(12):
        handler.handle_exception(errors.DeadlockDetected(), operation=f"op-{number}")
    handler.handle_exception(ZeroDivisionError())

    summary = handler.get_error_summary()
    assert set(summary) == {
        "total_errors",
        "error_counts_by_category",
        "recent_errors",
    }
    assert summary["total_errors"] == 13
    assert summary["error_counts_by_category"] == {"database_query": 12, "unknown": 1}
    assert len(summary["recent_errors"]) == 10
    assert summary["recent_errors"][0]["operation"] == "op-3"


def test_history_is_bounded_and_the_count_is_not(handler):
    for _ in range(1500):
        handler.handle_exception(ZeroDivisionError())
    assert len(handler._history) == 1000
    assert handler.get_error_summary()["total_errors"] == 1500


def test_no_failure_is_lost_among_threads(handler):
    barrier = threading.Barrier(8)

    def fail(_index):
        barrier.wait()
        for _ in range(200):
            handler.handle_exception(errors.DeadlockDetected())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fail, range(8)))
    assert handler.get_error_summary()["error_counts_by_category"] == {
        "database_query": 1600
    }


def test_retries_end_after_three(handler):
    found = [
        handler.should_retry(
            handler.handle_exception(errors.DeadlockDetected(), retry_count=count)
        )
        for count in range(5)
    ]
    assert found == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("error", "count", "low_s", "high_s"),
    [
        (errors.DeadlockDetected(), 0, 1.0, 1.1),
        (errors.DeadlockDetected(), 2, 4.0, 4.4),
        (sdk.TooManyRequests("x"), 0, 5.0, 5.5),
        (errors.DeadlockDetected(), 20, 60.0, 60.0),
        (sdk.TooManyRequests("x", retry_after_secs=90), 0, 90.0, 90.0),
    ],
)
def test_delay_grows_up_to_a_minute(handler, error, count, low_s, high_s):
    context = handler.handle_exception(error, retry_count=count)
    assert low_s <= handler.get_retry_delay(context) <= high_s


def test_decorator_keeps_class_name_and_error(handler):
    @with_error_handling("pay", handler=handler)
    def pay():
        """Pay."""
        raise errors.UniqueViolation

    @with_error_handling("pay later", handler=handler)
    async def pay_later():
        raise errors.DeadlockDetected

    assert (pay.__name__, pay.__doc__) == ("pay", "Pay.")
    with pytest.raises(errors.UniqueViolation):
        pay()
    with pytest.raises(errors.DeadlockDetected):
        asyncio.run(pay_later())
    first, second = handler.get_error_summary()["recent_errors"]
    assert (first["operation"], second["operation"]) == ("pay", "pay later")
    assert first["duration_ms"] >= 0


@pytest.mark.parametrize(
    ("cls", "category", "severity", "recoverable"),
    [
        (DatabaseConnectionError, "database_connection", "high", True),
        (DatabaseQueryError, "database_query", "medium", False),
        (DatabaseTimeoutError, "database_timeout", "high", True),
        (AuthenticationError, "authentication", "critical", False),
        (RateLimitError, "rate_limiting", "medium", True),
        (ConfigurationError, "configuration", "critical", False),
    ],
)
def test_named_errors_have_their_kind_and_take_recoverable(
    handler, cls, category, severity, recoverable
):
    """Passing `recoverable` to two of the originals' raised a TypeError."""
    context = handler.handle_exception(cls("x"))
    found = (context.category, context.severity, context.recoverable)
    assert found == (category, severity, recoverable)
    for wanted in (True, False):
        context = handler.handle_exception(cls("x", recoverable=wanted))
        assert context.recoverable is wanted
