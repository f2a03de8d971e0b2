"""The client against what servers really send, and against what they must not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from harness.agents import errors
from harness.agents.client import AgentClient
from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.settings import load_settings

DELTA = '{"type":"response.output_text.delta","item_id":"m","delta":"%s"}'
DONE = "[DONE]"
ITEM = (
    '{"type":"response.output_item.done","item":{"type":"message","id":"m",'
    '"content":[{"type":"output_text","text":"%s"}]}}'
)


def chunked(*parts):
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts)


def chunked_head(wire):
    return wire.head(headers=b"Transfer-Encoding: chunked\r\n")


def test_question_is_sent_as_the_endpoint_wants_it(ask, wire):
    ask(wire.events(DELTA % "a", DONE))

    head, _, body = ask.server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /serving-endpoints/responses HTTP/1.1\r\n")
    assert f"Authorization: Bearer {wire.TOKEN}".encode() in head
    assert json.loads(body) == {
        "model": "ka-1-endpoint",
        "input": [{"role": "user", "content": "why?"}],
        "stream": True,
    }


@pytest.mark.parametrize(
    "events",
    [
        (DELTA % "an", DELTA % "swer", DONE),
        (DELTA % "an", DELTA % "swer", ITEM % "answer", DONE),
        (ITEM % "answer", DONE),
        (DELTA % "answer", '{"type":"response.completed","response":{}}'),
        ('{"trace_id":"t"}', DELTA % "answer", '{"trace_id":"t"}', DONE),
        (DELTA % "answer", DONE, '{"after":"the end"}', "not json"),
    ],
)
def test_answer_is_whole_whatever_the_server_leaves_out(ask, wire, events):
    assert ask(wire.events(*events)).text == "answer"


def test_end_marker_without_its_newlines_still_ends_the_answer(ask, wire):
    body = b"data: " + (DELTA % "a").encode() + b"\n\ndata: [DONE]"
    assert ask([wire.head() + body]).text == "a"


def test_characters_cut_in_two_by_the_wire_are_whole_in_the_answer(ask, wire):
    stream = f"data: {DELTA % 'café —'}\r\n\r\ndata: {DONE}\r\n\r\n".encode()
    single_bytes = [stream[i : i + 1] for i in range(len(stream))]
    answer = ask([chunked_head(wire), chunked(*single_bytes, b"")])
    assert answer.text == "café —"


def test_server_that_does_not_stream_is_understood(ask, wire):
    body = {"output": [json.loads(ITEM % "whole")["item"]]}
    answer = ask(wire.whole("200 OK", json.dumps(body).encode()))
    assert answer.text == "whole"


def test_server_that_hangs_after_the_end_costs_no_answer(ask, wire):
    stream = b"data: " + (DELTA % "a").encode() + b"\n\ndata: [DONE]\n\n"
    script = [chunked_head(wire), chunked(stream), wire.HANG]
    assert ask(script, timeout_s=30.0).text == "a"


BROKEN_STREAMS = {
    "closed in order without an end marker": lambda wire: wire.events(DELTA % "part"),
    "cut inside an event": lambda wire: [
        *wire.events(DELTA % "part"),
        b'data: {"type":"resp',
    ],
    "closed inside a chunk": lambda wire: [
        chunked_head(wire),
        chunked(b"data: " + (DELTA % "part").encode() + b"\n\n"),
        b"ff\r\ndata: ",
    ],
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_truncated_stream_is_an_error_with_the_text_so_far(ask, wire, name):
    with pytest.raises(errors.AgentStreamTruncatedError) as raised:
        ask(BROKEN_STREAMS[name](wire))
    assert raised.value.partial_text == "part"


def test_reset_inside_a_body_is_a_truncated_stream(ask, wire):
    with pytest.raises(errors.AgentStreamTruncatedError):
        ask([chunked_head(wire), wire.RESET])


def test_failure_event_is_raised_with_the_text_so_far(ask, wire):
    with pytest.raises(errors.AgentStreamError, match="broke") as raised:
        ask(wire.events(DELTA % "part", '{"error":"broke"}', DONE))
    assert raised.value.partial_text == "part"


@pytest.mark.parametrize(
    "script",
    [
        lambda wire: wire.whole("200 OK", b"<html>sign in</html>", "text/html"),
        lambda wire: wire.whole("200 OK", b"{half"),
        lambda wire: wire.whole("200 OK", b""),
        lambda wire: wire.whole("302 Found", b"", headers=b"Location: /login\r\n"),
        lambda wire: wire.events("not json", DONE),
        lambda _wire: [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
    ],
    ids=["login-page", "half-json", "empty", "redirect", "bad-event", "not-http"],
)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_what_is_no_answer_is_a_bad_response(ask, wire, script, stream):
    with pytest.raises(errors.AgentBadResponseError):
        ask(script(wire), stream=stream)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_connection_lost_before_the_response_is_a_connection_error(ask, wire, end):
    with pytest.raises(errors.AgentConnectionError, match="DATABRICKS_BASE_URL"):
        ask([wire.RESET] if end == "reset" else [])


def test_closed_port_is_a_connection_error():
    client = AgentClient(
        base_url="http://127.0.0.1:1/x", token=SecretStr("t"), model="m"
    )
    with client, pytest.raises(errors.AgentConnectionError, match=r"127\.0\.0\.1:1"):
        client.ask("why?")


@pytest.mark.parametrize(
    "script",
    [
        lambda wire: [wire.HANG],
        lambda wire: [b"HTTP/1.1 200 OK\r\nX", wire.DRIP],
        lambda wire: [wire.head(), wire.HANG],
        lambda wire: [wire.head(), wire.DRIP],
        lambda wire: [*wire.events(DELTA % "part"), wire.DRIP],
    ],
    ids=["silence", "header-drip", "stall", "drip", "drip-after-text"],
)
def test_deadline_is_total_whatever_trickles_in(ask, wire, script):
    """A time-out per read never ends a call whose server sends a byte at times."""
    started_ns = SYSTEM_CLOCK.monotonic_ns()
    with pytest.raises(errors.AgentTimeoutError):
        ask(script(wire), timeout_s=0.5)
    assert 0.4e9 < SYSTEM_CLOCK.monotonic_ns() - started_ns < 3e9


def test_question_above_the_limit_is_not_sent(ask, wire):
    ask(wire.events(DELTA % "a", DONE))
    client = AgentClient(base_url=ask.server.base_url, token=SecretStr("t"), model="m")
    with client, pytest.raises(errors.AgentPayloadTooLargeError, match="4194304"):
        client.ask("x" * 4 * 1024 * 1024)
    assert len(ask.server.requests) == 1


@pytest.mark.parametrize(
    ("base_url", "told"),
    [
        ("dbc.cloud.databricks.com", "https://<workspace>/serving-endpoints"),
        ("ftp://x/serving-endpoints", "ftp://x"),
        ("https://", "https://"),
    ],
)
def test_base_url_that_cannot_work_is_refused(base_url, told):
    with pytest.raises(ConfigError, match="DATABRICKS_BASE_URL") as raised:
        AgentClient(base_url=base_url, token=SecretStr("t"), model="m")
    assert told in str(raised.value)


def test_every_missing_setting_is_named_at_once(tmp_path, monkeypatch):
    """The original filled in somebody's workspace and called it valid."""
    for name in ("DATABRICKS_TOKEN", "DATABRICKS_BASE_URL", "DATABRICKS_MODEL"):
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(cwd=tmp_path)
    with pytest.raises(ConfigError) as raised:
        AgentClient.from_settings(settings.agent)
    for name in ("DATABRICKS_TOKEN", "DATABRICKS_BASE_URL", "DATABRICKS_MODEL"):
        assert name in str(raised.value)


def test_client_needs_neither_openai_nor_databricks():
    code = (
        "from harness.agents.client import AgentClient\n"
        "from pydantic import SecretStr\n"
        "AgentClient(base_url='http://x', token=SecretStr('t'), model='m').close()\n"
        "import sys\n"
        "print([m for m in ('openai', 'databricks', 'httpx') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
