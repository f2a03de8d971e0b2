"""Three ways to ask an endpoint, and which one it wants."""

from __future__ import annotations

import json

import pytest

from harness.agents import errors
from harness.agents.questions import body_of, checked_url
from harness.errors import ConfigError

DELTA = '{"type":"response.output_text.delta","item_id":"m","delta":"%s"}'
CHUNK = '{"object":"chat.completion.chunk","choices":[{"delta":{"content":"%s"}}]}'
END = '{"choices":[{"delta":{},"finish_reason":"%s"}]}'


def sent(server, index=0):
    head, _, body = server.requests[index].partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode(), json.loads(body)


def test_invocations_name_the_endpoint_in_the_path(ask, wire):
    ask(wire.events(DELTA % "a", "[DONE]"), route="invocations")
    line, body = sent(ask.server)
    assert line == "POST /serving-endpoints/ka-1-endpoint/invocations HTTP/1.1"
    assert "model" not in body


def test_chat_is_asked_with_messages_and_read(ask, wire):
    answer = ask(
        wire.events(CHUNK % "a", CHUNK % "b", END % "stop", "[DONE]"), route="chat"
    )
    line, body = sent(ask.server)
    assert line == "POST /serving-endpoints/chat/completions HTTP/1.1"
    assert body["messages"] == [{"role": "user", "content": "why?"}]
    assert answer.text == "ab"
    assert len(answer.timing.token_ns) == 2
    assert answer.incomplete is None


def test_chat_in_one_body_is_read(ask, wire):
    chat = {
        "id": "c1",
        "model": "m",
        "choices": [
            {
                "message": {"role": "assistant", "content": "ab"},
                "finish_reason": "length",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    answer = ask(wire.whole("200 OK", json.dumps(chat).encode()), stream=False)
    assert (answer.text, answer.usage.output_tokens) == ("ab", 2)
    assert answer.incomplete == "length"


def test_messages_of_older_agents_are_read(ask, wire):
    chat = {"messages": [{"role": "assistant", "content": "ab", "id": "1"}]}
    assert ask(wire.whole("200 OK", json.dumps(chat).encode())).text == "ab"


def test_chat_cut_before_its_finish_reason_is_truncated(ask, wire):
    with pytest.raises(errors.AgentStreamTruncatedError) as raised:
        ask(wire.events(CHUNK % "a"), route="chat")
    assert raised.value.partial_text == "a"


def state(task):
    body = {"name": "x", "task": task, "state": {"ready": "READY"}}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("llm/v1/chat", "/serving-endpoints/chat/completions"),
        ("agent/v1/chat", "/serving-endpoints/chat/completions"),
        ("agent/v2/chat", "/serving-endpoints/chat/completions"),
        ("agent/v1/responses", "/serving-endpoints/responses"),
        (None, "/serving-endpoints/responses"),
    ],
)
def test_task_of_an_unknown_endpoint_chooses_the_route(ask, wire, task, path):
    events = wire.events(CHUNK % "a", "[DONE]")
    ask(wire.whole("200 OK", state(task)), events, route="auto", model="my-endpoint")
    first, second = (r.split(b" ")[1].decode() for r in ask.server.requests)
    assert first == "/api/2.0/serving-endpoints/my-endpoint"
    assert second == path


def test_knowledge_assistant_is_asked_without_looking_it_up(ask, wire):
    ask(wire.events(DELTA % "a", "[DONE]"), route="auto")
    assert len(ask.server.requests) == 1


def test_endpoint_whose_state_is_not_told_is_asked_all_the_same(ask, wire):
    answer = ask(
        wire.whole("403 Forbidden", b"{}"),
        wire.events(DELTA % "a", "[DONE]"),
        route="auto",
        model="my-endpoint",
    )
    assert answer.text == "a"


def test_extra_members_are_sent_and_ours_are_not_overwritten():
    extra = {"databricks_options": {"return_trace": True}}
    body = json.loads(
        body_of("q", route="responses", model="m", stream=True, extra=extra)
    )
    assert body["databricks_options"] == {"return_trace": True}
    with pytest.raises(ConfigError, match="model"):
        body_of("q", route="chat", model="m", stream=True, extra={"model": "x"})


def test_conversation_becomes_chat_messages():
    items = [
        {"role": "system", "content": "s"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "y"}],
        },
    ]
    body = json.loads(body_of(items, route="chat", model="m", stream=False))
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": "y"},
    ]


def test_unknown_route_is_refused(ask, wire):
    with pytest.raises(ConfigError, match=r"'rest'.*responses, invocations, chat"):
        ask(wire.events("[DONE]"), route="rest")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://x/serving-endpoints/", "https://x/serving-endpoints"),
        ("https://x/serving-endpoints/responses", "https://x/serving-endpoints"),
        ("https://x", "https://x/serving-endpoints"),
        ("https://x/ai-gateway/openai/v1", "https://x/ai-gateway/openai/v1"),
    ],
)
def test_base_url_is_brought_to_one_form(given, used):
    assert checked_url(given) == used
