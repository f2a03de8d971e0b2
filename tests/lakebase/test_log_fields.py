"""Tokens, retried operations and reported failures reach the log as fields."""

from __future__ import annotations

import io
import json
import logging
from random import Random

import psycopg
import pytest

from harness.clock import ManualClock
from harness.errors import (
    Classification,
    CredentialError,
    ErrorCategory,
    Severity,
    Verdict,
)
from harness.lakebase.error_handling import ErrorHandler
from harness.lakebase.minting import MintedCredentials
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.retry_budget import RetryBudget
from harness.settings.logs import configure_logging
from harness.settings.monitoring import MonitoringSettings

LIMITED = Classification(
    ErrorCategory.RATE_LIMITING, Severity.MEDIUM, Verdict.RETRYABLE
)


@pytest.fixture
def lines():
    """Return a function: the JSON lines of an operation so far."""
    logger = logging.getLogger("harness")
    before = (logger.level, list(logger.handlers))
    stream = io.StringIO()
    configure_logging(
        MonitoringSettings(log_format="json", log_level="INFO"), stream=stream
    )

    def of(operation):
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [o for o in found if o.get("operation") == operation]

    yield of
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def failing(*errors):
    left = list(errors)

    def work():
        if left:
            raise left.pop(0)

    return work


def recovery(**policy):
    return Recovery(
        RetryPolicy(**policy),
        budget=RetryBudget(),
        clock=ManualClock(),
        random=Random(1),
    )


def test_an_operation_that_succeeds_at_last_tells_of_each_try(lines):
    deadlock = psycopg.errors.DeadlockDetected()
    recovery().call(failing(deadlock, deadlock), name="order.insert")

    first, second, last = lines("order.insert")
    assert (first["attempt"], second["attempt"], last["attempt"]) == (1, 2, 3)
    assert first["category"] == "database_query"
    assert (last["level"], last["message"]) == (
        "INFO",
        "order.insert succeeded after all",
    )
    assert last["duration_ms"] >= first["wait_ms"] + second["wait_ms"]


def test_an_operation_that_is_given_up_says_why_and_after_how_many_tries(lines):
    limited = CredentialError("slow down", classification=LIMITED)
    with pytest.raises(CredentialError):
        recovery(retries_max=2).call(failing(*[limited] * 3), name="token")

    last = lines("token")[-1]
    assert (last["level"], last["attempt"]) == ("ERROR", 3)
    assert (last["category"], last["verdict"]) == ("rate_limiting", "retryable")


def test_an_operation_that_works_or_fails_at_once_writes_nothing(lines):
    """Both may come thousands of times a second; the caller has the error."""
    recovery().call(failing(), name="fine")
    with pytest.raises(psycopg.errors.UniqueViolation):
        recovery().call(failing(psycopg.errors.UniqueViolation()), name="duplicate")
    assert lines("fine") == lines("duplicate") == []


def test_a_mint_that_fails_tells_its_number_category_and_pause(lines):
    clock = ManualClock()

    def mint():
        raise CredentialError("slow down", classification=LIMITED)

    credentials = MintedCredentials(mint, clock=clock, random=Random(1))
    for _ in range(2):
        with pytest.raises(CredentialError):
            credentials.credential()
        clock.advance(60)

    first, second = lines("credentials.mint")
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["category"] == "rate_limiting"
    assert first["wait_ms"] > 0
    assert first["level"] == "WARNING"


def test_a_failure_told_to_the_handler_is_a_line_at_the_level_of_its_severity(lines):
    ErrorHandler().handle_exception(
        psycopg.errors.InvalidPassword("canary"),
        operation="report",
        duration_ms=12.5,
        retry_count=1,
    )

    (line,) = lines("report")
    assert (line["level"], line["category"]) == ("CRITICAL", "authentication")
    assert (line["duration_ms"], line["attempt"]) == (12.5, 2)
    assert "canary" not in json.dumps(line)
