"""Streams that no server should send: an answer, or an error of ours, and no third."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agents import exchange as exchange_module
from harness.agents.answer import Answer
from harness.agents.deadline import Deadline
from harness.agents.errors import (
    AgentBadResponseError,
    AgentCallError,
    AgentStreamError,
    AgentStreamTruncatedError,
)
from harness.agents.exchange import Exchange
from harness.clock import ManualClock

DELTA = {"type": "response.output_text.delta", "item_id": "m", "delta": "ab"}
DONE = b"data: [DONE]\n\n"


def frame(event):
    data = event if isinstance(event, str) else json.dumps(event)
    return f"data: {data}\n\n".encode()


def read(stream, *, cuts=()):
    """The answer of a stream that arrives cut at *cuts*."""
    clock = ManualClock()
    exchange = Exchange(
        deadline=Deadline(60, clock=clock), clock=clock, origin="https://x", scrub=str
    )
    assert exchange.begin(200, {"content-type": "text/event-stream"}) == "stream"
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        exchange.feed(stream[start:end])
    exchange.end()
    return exchange.builder.build()


def outcome_of(stream, *, cuts=()):
    """The answer or the error of ours; anything else is raised."""
    try:
        return read(stream, cuts=cuts)
    except AgentCallError as error:
        return error


WHOLE = {
    "comments and retry lines": b": hi\nretry: 10\n\n" + frame(DELTA) + DONE,
    "carriage returns only": frame(DELTA).replace(b"\n", b"\r")
    + DONE.replace(b"\n", b"\r"),
    "no space after the colon": b'data:{"type":"response.output_text.delta",'
    b'"delta":"ab"}\n\ndata:[DONE]\n\n',
    "event in two data lines": b'data: {"type":"response.output_text.delta",\n'
    b'data: "delta":"ab"}\n\n' + DONE,
    "event names and ids": b"event: x\nid: 7\n" + frame(DELTA) + DONE,
    "byte order mark": b"\xef\xbb\xbf" + frame(DELTA) + DONE,
    "empty events": b"\n\n\ndata\n\n".replace(b"data\n\n", b"") + frame(DELTA) + DONE,
    "trace events around it": frame({"trace_id": "t"})
    + frame(DELTA)
    + frame({"trace_id": "t"})
    + DONE,
    "unknown events": frame({"type": "response.mcp.call"}) + frame(DELTA) + DONE,
    "chatter after the end": frame(DELTA) + DONE + frame("not json"),
    "end marker without newlines": frame(DELTA) + b"data: [DONE]",
    "blanks around the end marker": frame(DELTA) + b"data:   [DONE]  \n\n",
    "signs of life without data": b"data:\n\ndata\n\n" + frame(DELTA) + DONE,
    "error false is no error": frame({"error": False}) + frame(DELTA) + DONE,
    "misspelt completed": frame(DELTA)
    + frame({"type": "responses.completed", "response": {}}),
    "nulls where objects belong": frame(DELTA)
    + frame({"type": "response.completed", "response": None}),
    "reasoning before the message": frame(
        {
            "type": "response.output_item.done",
            "item": {"type": "reasoning", "summary": [{"text": "zz"}]},
        }
    )
    + frame(DELTA)
    + DONE,
    "error null is no error": frame({**DELTA, "error": None})
    + frame({"type": "response.completed", "response": {"error": None}}),
    "huge numbers": frame({**DELTA, "output_index": 10**40}) + DONE,
    "lone surrogate": frame({"type": "x", "y": "\ud800"}) + frame(DELTA) + DONE,
}

BROKEN = {
    "nothing": (b"", AgentStreamTruncatedError),
    "comments only": (b": hi\n\n" * 9, AgentStreamTruncatedError),
    "cut in order": (frame(DELTA), AgentStreamTruncatedError),
    "cut in a frame": (frame(DELTA) + b'data: {"ty', AgentStreamTruncatedError),
    "half the end marker": (frame(DELTA) + b"data: [DO", AgentStreamTruncatedError),
    "typed error": (
        frame(DELTA) + frame({"type": "error", "message": "x"}) + DONE,
        AgentStreamError,
    ),
    "untyped error": (frame({"error": "x"}) + DONE, AgentStreamError),
    "empty error": (frame({"error": {}}) + DONE, AgentStreamError),
    "error code": (frame({"error_code": "X"}) + DONE, AgentStreamError),
    "failed response": (
        frame({"type": "response.failed", "response": {"error": {"code": "X"}}}),
        AgentStreamError,
    ),
    "end marker alone": (DONE, AgentBadResponseError),
    "text that is no text": (
        frame({**DELTA, "delta": {"text": "ab"}}) + DONE,
        AgentBadResponseError,
    ),
    "not json": (frame(DELTA) + frame("oops") + DONE, AgentBadResponseError),
    "array": (frame("[1]") + DONE, AgentBadResponseError),
    "number": (frame("7") + DONE, AgentBadResponseError),
    "deeply nested": (frame("[" * 100_000) + DONE, AgentBadResponseError),
    "not utf-8": (b"data: \xff\xfe\n\n" + DONE, AgentBadResponseError),
    "endless frame": (b"data: " + b"x" * (17 << 20), AgentBadResponseError),
    "html": (b"<html>\n<body>sign in</body>\n\n", AgentStreamTruncatedError),
    "nul bytes": (b"\0" * 100, AgentStreamTruncatedError),
}


@pytest.mark.parametrize("name", WHOLE)
def test_odd_stream_is_read_whole_however_it_is_cut(name):
    stream = WHOLE[name]
    assert read(stream).text == "ab"
    assert read(stream, cuts=range(len(stream))).text == "ab"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_stream_is_its_own_error(name):
    stream, error = BROKEN[name]
    with pytest.raises(error) as raised:
        read(stream)
    assert type(raised.value) is error
    assert raised.value.partial_text in {"", "ab"}


def test_endless_stream_ends_before_the_memory_does(monkeypatch):
    monkeypatch.setattr(exchange_module, "STREAM_BYTES_MAX", 10_000)
    with pytest.raises(AgentBadResponseError, match="longer than 10000 bytes"):
        read(frame(DELTA) * 1000 + DONE, cuts=range(0, 60_000, 1000))


def test_encoded_answer_is_named_and_not_guessed_at():
    clock = ManualClock()
    exchange = Exchange(
        deadline=Deadline(60, clock=clock), clock=clock, origin="x", scrub=str
    )
    head = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    with pytest.raises(AgentBadResponseError, match="gzip"):
        exchange.begin(200, head)


VALID = (
    frame({"type": "response.created", "response": {"id": "r"}})
    + frame(DELTA)
    + frame(
        {
            "type": "response.output_item.done",
            "item": {
                "type": "message",
                "id": "m",
                "content": [{"type": "output_text", "text": "ab"}],
            },
        }
    )
    + frame({"type": "response.completed", "response": {"usage": {"input_tokens": 1}}})
    + DONE
)


@settings(max_examples=300, deadline=None)
@given(
    at=st.integers(0, len(VALID)),
    gone=st.integers(0, 40),
    put=st.binary(max_size=12),
    cuts=st.lists(st.integers(0, len(VALID)), max_size=5),
)
def test_damaged_stream_is_an_answer_or_an_error_of_ours(at, gone, put, cuts):
    damaged = VALID[:at] + put + VALID[at + gone :]
    outcome = outcome_of(damaged, cuts=cuts)
    assert isinstance(outcome, (Answer, AgentCallError))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "delta", "item", "content", "text", "response", "output", "usage",
             "error", "choices", "message", "item_id", "output_index", "annotations"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(
        ["response.output_text.delta", "response.output_item.done",
         "response.completed", "response.output_text.annotation.added", None]
    ),
    event=st.dictionaries(
        st.sampled_from(["delta", "item", "response", "error", "choices",
                         "annotation", "content_index", "item_id"]),
        json_values,
    ),
)  # fmt: skip
def test_event_of_any_shape_is_survived(kind, event):
    if kind is not None:
        event["type"] = kind
    outcome = outcome_of(frame(event) + DONE)
    if isinstance(outcome, Answer):
        assert isinstance(outcome.text_without_footnotes, str)
        assert isinstance(outcome.citations, tuple)
    else:
        assert str(outcome)
