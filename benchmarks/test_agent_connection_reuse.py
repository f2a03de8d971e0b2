"""What does an agent's question cost when every one opens a connection?"""

from __future__ import annotations

import pytest

QUESTION = "How many connections does a pool hold?"
TOKENS = 20


@pytest.mark.benchmark(group="agent-connection-reuse")
@pytest.mark.parametrize("tls", ["off", "on"], ids="tls={}".format)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "new-each-time"])
def test_call_over_a_connection(benchmark, make_agent_stub, make_agent, kept, tls):
    """One caller; on loopback, so that only the work of opening shows, no distance."""
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0, tokens=TOKENS, tls=tls)
    agent = make_agent(stub, keeps_open=kept, ca_pem=stub.ca_pem)
    agent.ask(QUESTION)
    before = stub.statement()

    answer = benchmark(agent.ask, QUESTION)

    after = stub.statement()
    asked = after.requests_count - before.requests_count
    # Our own look at the journal is one connection too.
    opened = after.connections_count - before.connections_count - 1
    assert len(answer.timing.token_ns) == TOKENS
    assert opened == (0 if kept else asked)
