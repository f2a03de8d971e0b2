from __future__ import annotations

import json

import pytest

from harness.agents.assembly import AnswerBuilder
from harness.agents.errors import (
    AgentBadResponseError,
    AgentServerError,
    AgentStreamError,
)

DELTA = "response.output_text.delta"


def message(*texts, item_id="m1"):
    content = [{"type": "output_text", "text": t, "annotations": []} for t in texts]
    return {"type": "message", "id": item_id, "role": "assistant", "content": content}


def delta(text, **where):
    return {"type": DELTA, "delta": text, **where}


def item_done(*texts, item_id="m1"):
    item = message(*texts, item_id=item_id)
    return {"type": "response.output_item.done", "item": item}


def build(*events):
    """The answer of events read at 1, 2, 3 ... ns after sending at 0."""
    builder = AnswerBuilder(sent_ns=0)
    for at_ns, event in enumerate(events, start=1):
        data = event if isinstance(event, str) else json.dumps(event)
        builder.add_event(data, at_ns)
    return builder.build()


def test_text_sent_as_deltas_and_again_in_the_item_is_taken_once():
    answer = build(
        delta("a ", item_id="m1"), delta("b", item_id="m1"), item_done("a ", "b")
    )
    assert answer.text == "a b"
    assert [block.text for block in answer.blocks] == ["a ", "b"]
    assert len(answer.timing.token_ns) == 2


def test_item_in_footnote_syntax_does_not_replace_the_deltas():
    marked = "a[^1]\n\n[^1]: guide.pdf"
    answer = build(delta("a", item_id="m1"), item_done(marked))
    assert answer.text == answer.text_without_footnotes == "a"
    assert answer.text_with_footnotes == marked


def test_citations_that_came_as_events_survive_an_item_without_them():
    note = {"type": "url_citation", "title": "g.pdf", "url": "https://x/g.pdf"}
    added = {
        "type": "response.output_text.annotation.added",
        "item_id": "m1",
        "content_index": 0,
        "annotation": note,
    }
    answer = build(delta("a", item_id="m1"), added, item_done("a"))
    assert [citation.document for citation in answer.citations] == ["g.pdf"]
    assert answer.text == "a"


@pytest.mark.parametrize(
    "where", [{}, {"output_index": 0}, {"item_id": "another"}], ids=json.dumps
)
def test_deltas_belong_to_the_item_that_follows_whatever_their_ids(where):
    assert build(delta("a", **where), item_done("a")).text == "a"


def test_text_only_in_the_finished_item_is_content():
    """A Supervisor sends no deltas: its first token is the item."""
    answer = build({"trace_id": "t"}, item_done("whole"), "[DONE]")
    assert answer.text == "whole"
    assert answer.timing.first_event_ns == 1
    assert answer.timing.first_content_ns == 2


def test_text_only_in_the_completed_response_is_content():
    done = {"type": "response.completed", "response": {"output": [message("all")]}}
    assert build(done).text == "all"


def test_text_of_two_items_keeps_their_order():
    answer = build(
        delta("1", item_id="m1"),
        item_done("1"),
        delta("2", item_id="m2"),
        item_done("2", item_id="m2"),
    )
    assert answer.text == "12"


def test_text_of_items_without_ids_is_not_lost():
    answer = build(delta("1"), item_done("1"), delta("2"), item_done("2"), "[DONE]")
    assert answer.text == "12"


def test_output_text_done_repeats_its_deltas_or_stands_for_them():
    done = {"type": "response.output_text.done", "item_id": "m1", "text": "a"}
    assert build(delta("a", item_id="m1"), done).text == "a"
    assert build(done).text == "a"


def test_items_other_than_messages_are_no_content():
    call = {"type": "function_call", "id": "c", "arguments": "{}"}
    answer = build({"type": "response.output_item.done", "item": call}, "[DONE]")
    assert answer.text == ""
    assert answer.timing.ttft_s is None


def test_first_content_is_the_first_event_with_text_not_the_first_event():
    created = {"type": "response.created", "response": {"id": "r"}}
    answer = build(created, delta(""), delta("x"), delta("y"), "[DONE]")
    timing = answer.timing
    assert (timing.first_event_ns, timing.first_content_ns) == (1, 3)
    assert timing.token_ns == (3, 4)
    assert timing.done_ns == 5


def test_annotations_stay_with_their_block_and_out_of_the_repr():
    note = {"type": "url_citation", "url": "http://x/#:~:text=a-secret-passage"}
    added = {
        "type": "response.output_text.annotation.added",
        "item_id": "m1",
        "content_index": 1,
        "annotation": note,
    }
    answer = build(
        delta("a", item_id="m1", content_index=0),
        delta("b", item_id="m1", content_index=1),
        added,
    )
    assert [block.annotations for block in answer.blocks] == [(), (note,)]
    assert "a-secret-passage" not in repr(answer)


def test_metadata_is_found_where_the_platform_puts_it():
    done = {
        **item_done("a"),
        "databricks_output": {
            "databricks_request_id": "req-1",
            "trace": {"info": {"trace_id": "tr-1"}},
        },
    }
    completed = {
        "type": "responses.completed",
        "response": {
            "id": "r1",
            "model": "m",
            "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
            "custom_outputs": {"sources_used": False},
        },
    }
    answer = build(done, completed)
    assert answer.request_id == "req-1"
    assert answer.trace_id == "tr-1"
    assert answer.response_id == "r1"
    assert answer.usage.output_tokens == 2
    assert answer.grounded is False


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "error", "code": "X", "message": "broke"}, "X"),
        ({"type": "error", "error": {"code": "task_timeout"}}, "task_timeout"),
        ({"error": "broke"}, None),
        ({"error_code": "INTERNAL_ERROR", "message": "broke"}, "INTERNAL_ERROR"),
        ({"type": "response.failed", "response": {"error": {"code": "Y"}}}, "Y"),
    ],
)
def test_failure_inside_a_stream_is_raised_with_the_text_so_far(event, code):
    with pytest.raises(AgentStreamError) as raised:
        build(delta("so far"), event)
    assert raised.value.partial_text == "so far"
    assert raised.value.error_code == code


@pytest.mark.parametrize(
    "data", ["{", "[]", '"text"', "null", pytest.param("[" * 100_000, id="deep")]
)
def test_event_that_is_no_object_is_a_bad_response(data):
    with pytest.raises(AgentBadResponseError):
        build(delta("a"), data)


@pytest.mark.parametrize(
    "event",
    [
        {"type": DELTA, "delta": None},
        {"type": DELTA, "delta": ["x"]},
        {"type": DELTA},
        {"type": ["list"]},
        {"type": "response.output_item.done", "item": "text"},
        {"type": "response.output_item.done", "item": {"type": "message"}},
        {"type": "response.output_item.done", "item": message() | {"content": [None]}},
        {"type": "response.output_text.done", "text": 7, "content_index": {}},
        {"type": "response.output_text.annotation.added", "annotation": 7},
        {"type": "response.created", "response": []},
        {"databricks_output": {"trace": "x"}},
        {"type": "response.unheard_of"},
        {},
    ],
    ids=json.dumps,
)
def test_odd_but_harmless_events_are_survived(event):
    assert build(delta("a", item_id="m1"), event, delta("b", item_id="m1")).text == "ab"


def body(value):
    builder = AnswerBuilder(sent_ns=0)
    builder.add_body(json.dumps(value).encode(), 1)
    return builder.build()


def test_body_joins_all_blocks_of_all_messages():
    """The original returned `output[0].content[0].text`: a part of the answer."""
    reasoning = {"type": "reasoning", "id": "r", "summary": []}
    output = [reasoning, message("a ", "b "), message("c", item_id="m2")]
    answer = body({"output": output})
    assert answer.text == "a b c"
    assert len(answer.blocks) == 3


@pytest.mark.parametrize("value", [[], {}, {"output": "x"}, {"choices": []}, None])
def test_body_without_output_is_a_bad_response(value):
    with pytest.raises(AgentBadResponseError):
        body(value)


def test_body_that_reports_a_failure_is_a_server_error():
    with pytest.raises(AgentServerError, match="broke"):
        body({"error": {"code": "X", "message": "broke"}})
