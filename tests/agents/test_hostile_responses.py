"""Responses that lie, at the level of HTTP: each an answer or its own error."""

from __future__ import annotations

import gzip
import json

import pytest

from harness.agents import errors

DELTA = b'data: {"type":"response.output_text.delta","item_id":"m","delta":"ab"}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = DELTA + DONE
BODY = json.dumps(
    {
        "output": [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "ab"}],
            }
        ]
    }
).encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def chunks(*parts, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


ANSWERED = {
    "continue and hints before it": lambda head: (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + head()
        + STREAM
    ),
    "twenty thousand interim responses": lambda head: (
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20_000 + head() + STREAM
    ),
    "length beyond what comes": lambda head: head(length=10**6) + STREAM,
    "garbage where trailers belong": lambda head: (
        head(headers=CHUNKED) + chunks(STREAM, end=b"0\r\n\0no colon\r\n\r\n")
    ),
    "no last chunk": lambda head: head(headers=CHUNKED) + chunks(STREAM, end=b""),
    "chunked with a length too": lambda head: (
        head(headers=CHUNKED, length=3) + chunks(STREAM)
    ),
    "HTTP/1.0": lambda _head: (
        b"HTTP/1.0 200 OK\r\nContent-Type: TEXT/Event-Stream; charset=UTF-8\r\n\r\n"
        + STREAM
    ),
    "headers that are no ASCII": lambda head: (
        head(headers="X-Request-Id: é\r\n".encode()) + STREAM
    ),
    "a whole body instead of a stream": lambda head: (
        head(content_type="application/json", length=len(BODY)) + BODY
    ),
    "a body after a byte order mark": lambda head: (
        head(content_type="application/json") + b"\xef\xbb\xbf" + BODY
    ),
}
REFUSED = {
    "length that ends the stream early": (
        lambda head: head(length=20) + STREAM,
        errors.AgentStreamTruncatedError,
    ),
    "length that ends the body early": (
        lambda head: head(content_type="application/json", length=9) + BODY,
        errors.AgentBadResponseError,
    ),
    "two lengths": (
        lambda head: head(headers=b"Content-Length: 3\r\n", length=9) + STREAM,
        errors.AgentBadResponseError,
    ),
    "negative length": (
        lambda head: head(length=-5) + STREAM,
        errors.AgentBadResponseError,
    ),
    "chunk size that is no number": (
        lambda head: head(headers=CHUNKED) + chunks(DELTA, end=b"zz\r\nx\r\n"),
        errors.AgentStreamTruncatedError,
    ),
    "chunk of endless size": (
        lambda head: head(headers=CHUNKED) + chunks(DELTA, end=b"f" * 20 + b"\r\nx"),
        errors.AgentStreamTruncatedError,
    ),
    "gzip that says so": (
        lambda head: head(headers=b"Content-Encoding: gzip\r\n") + gzip.compress(BODY),
        errors.AgentBadResponseError,
    ),
    "gzip that does not": (
        lambda head: head() + gzip.compress(STREAM),
        errors.AgentStreamTruncatedError,
    ),
    "another protocol's bytes": (
        lambda _head: b"\x15\x03\x01\x00\x02\x02\x28",
        errors.AgentBadResponseError,
    ),
    "switch of protocol": (
        lambda _head: b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        errors.AgentBadResponseError,
    ),
    "header of two hundred thousand bytes": (
        lambda head: head(headers=b"X: " + b"a" * 200_000 + b"\r\n") + STREAM,
        errors.AgentBadResponseError,
    ),
    "no content": (
        lambda _head: b"HTTP/1.1 204 No Content\r\n\r\n",
        errors.AgentBadResponseError,
    ),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_odd_response_is_read_whole(ask, wire, name):
    assert ask([ANSWERED[name](wire.head)]).text == "ab"


@pytest.mark.parametrize("name", REFUSED)
def test_response_that_lies_is_its_own_error(ask, wire, name):
    make, error = REFUSED[name]
    with pytest.raises(error) as raised:
        ask([make(wire.head)])
    assert type(raised.value) is error
    assert raised.value.partial_text in {"", "ab"}


@pytest.mark.parametrize("status", ["301 X", "302 X", "307 X", "308 X"])
def test_redirect_is_not_followed_and_the_token_stays(ask, wire, make_server, status):
    other = make_server(wire.whole("200 OK", BODY))
    location = f"Location: {other.base_url}/responses\r\n".encode()
    with pytest.raises(errors.AgentBadResponseError, match="not followed"):
        ask(wire.whole(status, b"", headers=location))
    assert not other.requests


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("RESOURCE_EXHAUSTED", errors.AgentRateLimitedError),
        ("PERMISSION_DENIED", errors.AgentPermissionError),
        ("ENDPOINT_NOT_FOUND", errors.AgentNotFoundError),
        ("TEMPORARILY_UNAVAILABLE", errors.AgentNotReadyError),
        ("SOMETHING_NEW", errors.AgentServerError),
    ],
)
def test_error_code_in_a_body_of_status_200_tells_the_error(ask, wire, code, error):
    body = json.dumps({"error_code": code, "message": "m"}).encode()
    with pytest.raises(error, match=f"the agent reported {code}: m") as raised:
        ask(wire.whole("200 OK", body), stream=False)
    assert type(raised.value) is error
    assert raised.value.error_code == code


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("NaN", None),
        ("inf", None),
        ("1e400", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("Fri, 99 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_of_any_shape_is_read_or_ignored(ask, wire, value, seconds):
    header = f"Retry-After: {value}\r\n".encode()
    with pytest.raises(errors.AgentRateLimitedError) as raised:
        ask(wire.whole("429 X", b"<html>slow</html>", "text/html", header))
    assert raised.value.retry_after_s == seconds
    assert "an HTML page" in str(raised.value)


@pytest.mark.parametrize("value", ["9" * 20, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_the_deadline_fails_at_once(ask, wire, value):
    header = f"Retry-After: {value}\r\n".encode()
    with pytest.raises(errors.AgentRateLimitedError, match="does not fit") as raised:
        ask(wire.whole("429 X", b"{}", headers=header), max_retries=3)
    assert len(raised.value.attempts) == len(ask.server.requests) == 1
