"""The functions people know, and what was wrong with them."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import SecretStr

from harness.agents import ask as asking
from harness.agents import errors
from harness.agents.ask import (
    AsyncConversation,
    Conversation,
    ask_agent,
    call_agent,
    call_agent_with_metadata,
)
from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient
from harness.errors import ConfigError

VARIABLES = ("DATABRICKS_TOKEN", "DATABRICKS_BASE_URL", "DATABRICKS_MODEL")


def answer(*texts, **more):
    content = [{"type": "output_text", "text": t, "annotations": []} for t in texts]
    item = {"type": "message", "id": "m", "role": "assistant", "content": content}
    return json.dumps({"id": "r1", "model": "ka", "output": [item], **more}).encode()


@pytest.fixture
def configured(monkeypatch, tmp_path, make_server):
    """Configure the endpoint of a server that plays *scripts*; return the server."""
    monkeypatch.chdir(tmp_path)

    def configure(*scripts, missing=()):
        server = make_server(*scripts)
        values = ("dapi-of-the-environment", server.base_url, "ka-1-endpoint")
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.delenv(name, raising=False)
            if name not in missing:
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("AGENTBRICKS_MAX_RETRIES", "0")
        return server

    yield configure
    asking.close_clients()


def test_text_of_every_block_is_returned(configured, wire):
    """The original returned the first block: one cited span of many."""
    configured(wire.whole("200 OK", answer("A pool ", "holds ", "ten.")))
    assert ask_agent("why?") == "A pool holds ten."


def test_failure_is_an_exception_and_no_text(configured, wire):
    """The original returned error texts, which its own test took for answers."""
    configured(wire.whole("500 Internal Server Error", b'{"message": "429 in a text"}'))
    with pytest.raises(errors.AgentServerError):
        ask_agent("why?")


def test_given_token_needs_no_token_in_the_environment(configured, wire):
    """The original looked at the environment before its arguments."""
    server = configured(wire.whole("200 OK", answer("a")), missing=["DATABRICKS_TOKEN"])
    assert ask_agent("why?", token="dapi-of-the-argument") == "a"
    assert b"Bearer dapi-of-the-argument" in server.requests[0]


def test_given_token_beats_the_one_of_the_environment(configured, wire):
    server = configured(wire.whole("200 OK", answer("a")))
    ask_agent("why?", token="dapi-of-the-argument")
    assert b"Bearer dapi-of-the-argument" in server.requests[0]


def test_given_endpoint_is_asked(configured, wire):
    server = configured(wire.whole("200 OK", answer("a")))
    ask_agent("why?", endpoint="ka-2-endpoint")
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2])["model"] == (
        "ka-2-endpoint"
    )


def test_missing_settings_are_named_and_none_is_invented(configured, wire):
    configured(wire.whole("200 OK", answer("a")), missing=VARIABLES)
    with pytest.raises(ConfigError) as raised:
        ask_agent("why?")
    assert all(name in str(raised.value) for name in VARIABLES)


def test_one_client_is_kept_for_all_questions(configured, wire):
    """The original opened a client and a connection per question."""
    configured(wire.whole("200 OK", answer("a")))
    ask_agent("one?")
    (client,) = asking._clients.values()
    ask_agent("two?")
    assert list(asking._clients.values()) == [client]


@pytest.mark.parametrize(("keep", "text"), [(False, "A pool."), (True, None)])
def test_footnotes_are_kept_or_removed(configured, wire, keep, text):
    marked = "A pool[^UCVq-1].\n\n[^UCVq-1]: guide.pdf"
    configured(wire.whole("200 OK", answer(marked)))
    assert ask_agent("why?", include_footnotes=keep) == (text or marked)


def test_prompt_and_history_come_before_the_question(configured, wire):
    server = configured(wire.whole("200 OK", answer("a")))
    call_agent(
        "and now?",
        "Be brief.",
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
    )
    body = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert body["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "x"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "y"}],
        },
        {"role": "user", "content": "and now?"},
    ]


def test_turn_without_a_role_is_refused_before_it_is_sent(configured, wire):
    server = configured(wire.whole("200 OK", answer("a")))
    with pytest.raises(ConfigError, match="turn 0"):
        call_agent("q", None, [{"content": "x"}])
    assert not server.requests


def test_metadata_tells_model_usage_and_citations(configured, wire):
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    configured(wire.whole("200 OK", answer("a", usage=usage)))
    told = call_agent_with_metadata("why?")
    assert (told["response_text"], told["model"]) == ("a", "ka")
    assert told["usage"]["total_tokens"] == 3
    assert told["citations"] == []
    assert [attempt.status for attempt in told["attempts"]] == [200]


def test_conversation_sends_all_that_was_said(make_server, wire):
    server = make_server(wire.whole("200 OK", answer("A pool[^1].\n\n[^1]: g.pdf")))
    with AgentClient(
        base_url=server.base_url, token=SecretStr("t"), model="ka-1-endpoint"
    ) as client:
        conversation = Conversation(client)
        conversation.ask("what?", stream=False)
        conversation.ask("why?", stream=False)
    sent = json.loads(server.requests[1].partition(b"\r\n\r\n")[2])["input"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"] == [{"type": "output_text", "text": "A pool."}]


def test_conversation_in_a_loop_sends_all_that_was_said(make_server, wire):
    server = make_server(wire.whole("200 OK", answer("a")))

    async def run():
        async with AsyncAgentClient(
            base_url=server.base_url, token=SecretStr("dapi-x"), model="ka-1-endpoint"
        ) as client:
            conversation = AsyncConversation(client, system_prompt="Be brief.")
            await conversation.ask("what?", stream=False)
            await conversation.ask("why?", stream=False)

    asyncio.run(run())
    sent = json.loads(server.requests[1].partition(b"\r\n\r\n")[2])["input"]
    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "user"]


def test_failed_question_is_not_part_of_the_conversation(make_server, wire):
    server = make_server(wire.whole("400 Bad Request", b"{}"))
    with AgentClient(
        base_url=server.base_url, token=SecretStr("t"), model="ka-1-endpoint"
    ) as client:
        conversation = Conversation(client)
        with pytest.raises(errors.AgentRequestError):
            conversation.ask("what?")
        assert conversation.items == ()


def test_timeout_of_the_settings_ends_a_call(configured, wire, monkeypatch):
    """The original read AGENTBRICKS_TIMEOUT, showed it and never used it."""
    configured([wire.HANG])
    monkeypatch.setenv("AGENTBRICKS_TIMEOUT", "0.3")
    with pytest.raises(errors.AgentTimeoutError, match=r"0\.3 s|in time"):
        ask_agent("why?")


def test_one_layer_retries(configured, wire, monkeypatch):
    """The original's own attempts times those of the SDK below made nine."""
    server = configured(
        wire.whole("503 Service Unavailable", b"{}", headers=b"Retry-After: 0\r\n")
    )
    monkeypatch.setenv("AGENTBRICKS_MAX_RETRIES", "2")
    with pytest.raises(errors.AgentNotReadyError) as raised:
        ask_agent("why?")
    assert len(server.requests) == len(raised.value.attempts) == 3


def test_item_before_the_message_is_not_taken_for_it(configured, wire):
    """The original returned the repr of whatever came first."""
    reasoning = {"type": "reasoning", "id": "r", "summary": []}
    call = {"type": "function_call", "id": "c", "name": "f", "arguments": "{}"}
    message = json.loads(answer("a"))["output"][0]
    body = json.dumps({"output": [reasoning, call, message]}).encode()
    configured(wire.whole("200 OK", body))
    assert ask_agent("why?") == "a"


@pytest.mark.parametrize("token", ["dapi" + "0" * 32, "eyJh.eyJi.c2ln", "short"])
def test_token_is_judged_by_the_endpoint_not_by_its_length(configured, wire, token):
    server = configured(wire.whole("200 OK", answer("a")))
    assert ask_agent("why?", token=token) == "a"
    assert f"Bearer {token}".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", errors.AgentNotFoundError),
        ("500 Internal Server Error", errors.AgentServerError),
        ("504 Gateway Timeout", errors.AgentTimeoutError),
        ("400 Bad Request", errors.AgentRequestError),
    ],
)
def test_what_is_no_credential_problem_is_not_called_one(
    configured, wire, status, error
):
    """The original called everything but rate limits an authentication error."""
    configured(wire.whole(status, b'{"message": "rate limit 429 token"}'))
    with pytest.raises(error) as raised:
        ask_agent("why?")
    assert type(raised.value) is error
