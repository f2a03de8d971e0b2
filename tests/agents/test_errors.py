from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest

from harness.agents import errors
from harness.agents.errors import error_from_response, parse_retry_after
from harness.clock import ManualClock


def error_of(status, body=b"", headers=None):
    return error_from_response(
        status=status,
        headers=headers or {},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        request_id=None,
        clock=ManualClock(),
    )


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", errors.AgentAuthError),
        (403, {"error_code": "PERMISSION_DENIED"}, errors.AgentPermissionError),
        (403, {"error_code": "UNAUTHENTICATED"}, errors.AgentAuthError),
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST"}, errors.AgentNotFoundError),
        (400, {"error_code": "ENDPOINT_NOT_FOUND"}, errors.AgentNotFoundError),
        (400, {"error_code": "BAD_REQUEST"}, errors.AgentRequestError),
        (422, {"detail": "no"}, errors.AgentRequestError),
        (413, b"", errors.AgentPayloadTooLargeError),
        (429, b"", errors.AgentRateLimitedError),
        (400, {"error_code": "RESOURCE_EXHAUSTED"}, errors.AgentRateLimitedError),
        (500, b"boom", errors.AgentServerError),
        (502, b"<html>", errors.AgentServerError),
        (503, b"<html>", errors.AgentNotReadyError),
        (504, b"", errors.AgentTimeoutError),
        (302, b"", errors.AgentBadResponseError),
    ],
)
def test_error_is_decided_by_status_and_code(status, body, kind):
    assert type(error_of(status, body)) is kind


@pytest.mark.parametrize("text", ["429", "rate limit", "Unauthorized", "timeout"])
def test_error_is_never_decided_by_the_words_of_a_message(text):
    """The original took any message with '429' in it for rate limiting."""
    error = error_of(500, {"error_code": "INTERNAL_ERROR", "message": f"id {text}"})
    assert type(error) is errors.AgentServerError


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"error_code": "X_Y", "message": "why"}, "X_Y", "why"),
        ({"error": "why"}, None, "why"),
        ({"error": {"code": "X_Y", "message": "why"}}, "X_Y", "why"),
        ({"detail": "why", "status": "400"}, None, "why"),
        (b"X_Y: why", "X_Y", "why"),
        (b"why", None, "why"),
        (b"<html><pre>secret stack</pre></html>", None, "an HTML page"),
        (["why"], None, "why"),
        (b"\xff\xfe", None, "answered 500"),
        (b"x" * 10_000, None, "..."),
    ],
)
def test_every_form_of_an_error_body_is_read(body, code, told):
    error = error_of(500, body)
    assert error.error_code == code
    assert told in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_a_number(value, seconds):
    assert parse_retry_after(value, clock=ManualClock()) == seconds


def test_retry_after_is_read_as_a_date():
    clock = ManualClock()
    soon = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(soon, clock=clock) == 90.0
    past = format_datetime(clock.now() - timedelta(seconds=90), usegmt=True)
    assert parse_retry_after(past, clock=clock) == 0.0


def test_message_says_what_happened_and_what_to_do():
    error = error_of(
        429,
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many"},
        {"retry-after": "7"},
    )
    assert str(error) == (
        "agent endpoint answered 429 REQUEST_LIMIT_EXCEEDED: too many; it asked to "
        "wait 7 s; lower the load, or allow more time in AGENTBRICKS_TIMEOUT"
    )
    assert error.retry_after_s == 7.0


def test_every_error_says_what_kind_it_is():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.AgentCallError)
        and kind is not errors.AgentCallError
    ]
    assert len(kinds) >= 14
    unknown = errors.AgentCallError.classification
    assert not [kind for kind in kinds if kind.classification == unknown]


def test_what_the_retry_layer_repeats_is_called_retryable():
    from harness.agents.retry import _RETRYABLE

    assert {kind.classification.verdict.value for kind in _RETRYABLE} == {"retryable"}
