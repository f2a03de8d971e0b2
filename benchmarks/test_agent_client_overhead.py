"""What does our agent client cost on top of the bytes it moves?"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

QUESTION = "How many connections does a pool hold?"
TOKENS = 50


@pytest.fixture
def stub(make_agent_stub):
    """A stub that answers at once, so that only the client takes time."""
    return make_agent_stub(ttft_s=0.0, itl_s=0.0, tokens=TOKENS)


@pytest.mark.benchmark(group="agent-client-overhead")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_call_without_delay(benchmark, stub, make_agent, stream):
    """One call over a connection kept open, one caller: the client's own cost."""
    agent = make_agent(stub)

    answer = benchmark(agent.ask, QUESTION, stream=stream)

    assert answer.usage.output_tokens == TOKENS


@pytest.mark.benchmark(group="agent-client-overhead")
def test_call_without_client(benchmark, stub):
    """The same call by http.client and json alone: the floor under the others."""
    address = urlsplit(stub.base_url)
    connection = HTTPConnection(address.hostname, address.port)
    body = json.dumps({"model": stub.model, "input": QUESTION})
    headers = {"Authorization": f"Bearer {stub.token.get_secret_value()}"}

    @benchmark
    def answer():
        connection.request("POST", f"{address.path}/responses", body, headers)
        return json.loads(connection.getresponse().read())

    connection.close()
    assert answer["usage"]["output_tokens"] == TOKENS
