"""Our client against servers that others wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr
from werkzeug import Response

from harness.agents import errors
from harness.agents.client import AgentClient

NODE = Path(__file__).parent / "node"
AIMOCK = NODE / "node_modules/@copilotkit/aimock/dist/cli.js"
REPLY = "A pool holds as many connections as it may."


def client_of(base_url, **options):
    return AgentClient(
        base_url=base_url,
        token=SecretStr("canary-token"),
        model=options.pop("model", "ka-1-endpoint"),
        **{"timeout_s": 10.0, **options},
    )


@pytest.fixture
def werkzeug(httpserver):
    """pytest-httpserver, asked at its base URL."""
    with client_of(httpserver.url_for("/serving-endpoints")) as client:
        client.server = httpserver
        yield client


def item(text):
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "m", "role": "assistant", "content": content}


def test_werkzeug_answers_in_one_body(werkzeug):
    werkzeug.server.expect_oneshot_request(
        "/serving-endpoints/responses",
        method="POST",
        headers={"Authorization": "Bearer canary-token"},
        json={
            "model": "ka-1-endpoint",
            "input": [{"role": "user", "content": "why?"}],
            "stream": False,
        },
    ).respond_with_json({"id": "r", "output": [item(REPLY)]})
    assert werkzeug.ask("why?", stream=False).text == REPLY
    werkzeug.server.check_assertions()


def test_werkzeug_streams(werkzeug):
    frames = [
        {"type": "response.output_text.delta", "item_id": "m", "delta": word}
        for word in ("A ", "pool")
    ]
    lines = [f"data: {json.dumps(frame)}\n\n" for frame in frames]
    werkzeug.server.expect_request("/serving-endpoints/responses").respond_with_handler(
        lambda _request: Response(
            iter([*lines, "data: [DONE]\n\n"]), content_type="text/event-stream"
        )
    )
    assert werkzeug.ask("why?").text == "A pool"


def test_werkzeug_refuses_then_answers(werkzeug):
    path = "/serving-endpoints/responses"
    werkzeug.server.expect_ordered_request(path).respond_with_json(
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"},
        status=429,
        headers={"Retry-After": "0"},
    )
    werkzeug.server.expect_ordered_request(path).respond_with_json(
        {"output": [item(REPLY)]}
    )
    with client_of(werkzeug.base_url, max_retries=1) as client:
        answer = client.ask("why?")
    assert [attempt.status for attempt in answer.attempts] == [429, 200]


def test_path_that_werkzeug_does_not_know_is_a_refusal(werkzeug):
    with pytest.raises(errors.AgentCallError) as raised:
        werkzeug.ask("why?")
    assert raised.value.status == 500
    assert "canary-token" not in str(raised.value)


@pytest.fixture(scope="module")
def aimock(tmp_path_factory):
    """Base URL of aimock, a Node server that speaks OpenAI's protocol."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, which is not installed")
    if not AIMOCK.exists():
        pytest.skip("needs aimock: run `npm install --prefix tests/agents/node`")
    fixtures = tmp_path_factory.mktemp("aimock")
    reply = {"match": {"userMessage": "why?"}, "response": {"content": REPLY}}
    (fixtures / "replies.json").write_text(json.dumps({"fixtures": [reply]}))
    process = subprocess.Popen(
        [node, AIMOCK, "--port", "0", "--fixtures", fixtures, "--chunk-size", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        for line in process.stdout:
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split()[0].rstrip("/")
                break
        else:
            pytest.fail("aimock ended without telling where it listens")
        process.terminate()
        process.stdout.read()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("route", ["responses", "chat"])
def test_node_server_is_understood(aimock, route, stream):
    with client_of(f"{aimock}/v1", route=route, model="gpt-4o") as client:
        answer = client.ask("why?", stream=stream)
    assert answer.text == REPLY
    if stream:
        assert len(answer.timing.token_ns) == -(-len(REPLY) // 4)


def test_node_server_without_a_reply_is_an_error_of_ours(aimock):
    with (
        client_of(f"{aimock}/v1", model="gpt-4o") as client,
        pytest.raises(errors.AgentCallError),
    ):
        client.ask("something else?", stream=False)


def test_stub_is_used_from_another_language():
    """A few lines of Node start the stub, ask it and read its statement."""
    import sys

    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, which is not installed")
    program = """
    const { spawn } = require('node:child_process');
    const stub = spawn(process.argv[1], ['-m', 'harness.agents.stub']);
    stub.stdin.write(JSON.stringify({ plan: { ttft_s: 0, tokens: 4 } }) + '\\n');
    let lines = '', asked = false;
    stub.stdout.on('data', async (data) => {
      lines += data;
      if (asked || !lines.includes('\\n')) return;
      asked = true;
      const { base_url, token } = JSON.parse(lines.split('\\n')[0]);
      const answer = await fetch(`${base_url}/responses`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${token}` },
        body: JSON.stringify({ model: 'ka-1-endpoint', input: 'why?' }),
      });
      const body = await answer.json();
      console.log(body.output[0].content[0].text);
      stub.stdin.end();
    });
    stub.on('close', () => console.log(lines.split('\\n')[1]));
    """
    run = subprocess.run(
        [node, "-e", program, sys.executable],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    text, statement = run.stdout.splitlines()
    assert text == "A pool holds as "
    told = json.loads(statement)
    assert told["tokens_sent"] == 4
    assert told["lateness_ms"]["count"] >= 1
