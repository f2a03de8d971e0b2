"""A canary token and a canary passage, looked for wherever text comes out."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import traceback

import pytest
from pydantic import SecretStr

from harness.agents import errors
from harness.agents.ask import call_agent_with_metadata
from harness.agents.client import AgentClient

TOKEN = "dapi-canary-5c1b9e"
PASSAGE = "canary-passage-of-a-secret-document"
URL = (
    "http://localhost:30003/ajax-api/2.0/fs/files/Volumes/a/b/c/d.pdf"
    f"#page=2:~:text={PASSAGE}"
)
NOTE = {"type": "url_citation", "title": "d.pdf", "url": URL}
ITEM = {
    "type": "message",
    "id": "m",
    "content": [{"type": "output_text", "text": "hi", "annotations": [NOTE]}],
}
DONE = {"type": "response.output_item.done", "item": ITEM}


def client_of(server, **options):
    return AgentClient(
        base_url=server.base_url,
        token=SecretStr(TOKEN),
        model="ka-1-endpoint",
        **{"timeout_s": 2.0, **options},
    )


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_cited_passage_is_where_it_was_asked_for_and_nowhere_else(
    make_server, wire, caplog, capfd, stream
):
    caplog.set_level(logging.DEBUG)
    script = (
        wire.events(json.dumps(DONE), "[DONE]")
        if stream
        else wire.whole("200 OK", json.dumps({"output": [ITEM]}).encode())
    )
    with client_of(make_server(script)) as client:
        answer = client.ask("why?", stream=stream)
        told = call_agent_with_metadata("why?", client=client)
    (citation,) = answer.citations
    assert citation.passage == PASSAGE, "or there is nothing to look for"
    out, err = capfd.readouterr()
    shown = [caplog.text, out, err, repr(answer), repr(citation), str(told)]
    assert caplog.text
    assert not [text for text in shown if PASSAGE in text or TOKEN in text]


@pytest.mark.parametrize(
    "ending",
    [{"error": "it broke"}, {"type": "error", "message": "x"}, "no json", None],
    ids=["untyped", "typed", "malformed", "truncated"],
)
def test_failure_after_a_citation_shows_neither(make_server, wire, caplog, ending):
    caplog.set_level(logging.DEBUG)
    events = [json.dumps(DONE)]
    if ending is not None:
        events.append(ending if isinstance(ending, str) else json.dumps(ending))
    client = client_of(make_server(wire.events(*events)))
    with client, pytest.raises(errors.AgentCallError) as raised:
        client.ask("why?")
    told = "".join(traceback.format_exception(raised.value))
    for text in (told, repr(raised.value), str(raised.value.attempts), caplog.text):
        assert PASSAGE not in text
        assert TOKEN not in text


def test_token_of_a_provider_is_scrubbed_too(make_server, wire):
    body = json.dumps({"message": f"bad token {TOKEN}"}).encode()
    server = make_server(wire.whole("400 Bad Request", body))
    client = AgentClient(
        base_url=server.base_url, token=lambda: TOKEN, model="ka-1-endpoint"
    )
    with client, pytest.raises(errors.AgentRequestError) as raised:
        client.ask("why?")
    assert f"Bearer {TOKEN}".encode() in server.requests[0]
    assert TOKEN not in str(raised.value)


def test_failing_provider_is_named_without_what_it_said():
    from harness.errors import CredentialError

    def provide():
        msg = f"could not use {TOKEN}"
        raise RuntimeError(msg)

    client = AgentClient(base_url="http://127.0.0.1:1", token=provide, model="m")
    with client, pytest.raises(CredentialError, match="RuntimeError") as raised:
        client.ask("why?")
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


def test_plain_text_is_no_token():
    """A text would stand in tracebacks; the mistake is told without showing it."""
    from harness.errors import ConfigError

    with pytest.raises(ConfigError, match="SecretStr") as raised:
        AgentClient(base_url="http://127.0.0.1:1", token=TOKEN, model="m")
    assert TOKEN not in str(raised.value)


def test_benchmark_report_of_an_agent_holds_no_passage_and_no_token(tmp_path):
    """Whether the report is taken at its word is another matter on a busy machine."""
    case = tmp_path / "test_case.py"
    case.write_text(
        "def test_case(agent, agent_stub, agent_proof, benchmark):\n"
        "    agent_proof._strict = False\n"
        "    agent_proof.begin()\n"
        "    answers = [benchmark.pedantic(agent.ask, ['why?'], rounds=1)]\n"
        "    print('TOKEN', agent_stub.token.get_secret_value())\n"
        "    assert answers[0].citations[0].passage == 'A pool holds'\n"
        "    benchmark.extra_info.update(agent_proof.check(answers))\n"
    )
    report = tmp_path / "report.json"
    # Told that it is a worker of pytest-xdist, pytest-benchmark would measure nothing.
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    for _ in range(5):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", case,
             f"--benchmark-json={report}", "--rootdir", tmp_path],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=own,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        # A stub that was late makes the case INVALID, which is never filed.
        if report.exists():
            break
        assert "INVALID" in run.stdout
    token = run.stdout.split("TOKEN ")[1].split()[0]
    text = report.read_text()
    assert "tokens_count" in text, "or there is nothing to look in"
    assert token not in text
    assert "A%20pool" not in text
    assert "A pool holds" not in text


@pytest.mark.parametrize(
    "token", ["", "two words", "line\n", "dapi\u2014x", "a\r\nX: y"]
)
def test_token_that_no_header_can_carry_is_refused_without_it(token):
    from harness.errors import ConfigError

    with pytest.raises(ConfigError, match="DATABRICKS_TOKEN") as raised:
        AgentClient(base_url="http://127.0.0.1:1", token=SecretStr(token), model="m")
    assert not token or token not in str(raised.value)
