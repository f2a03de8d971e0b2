"""How many requests does a question cost an agent, with retries and without?"""

from __future__ import annotations

import pytest

from harness.agents.errors import AgentCallError
from harness.agents.stub.faults import Fault
from harness.load import poisson_arrivals, run_open_loop
from harness.retry_budget import BUDGET_BURST, BUDGET_RATIO, RetryBudget

QUESTION = "How many connections does a pool hold?"
# One question in ten is refused, as by a rate limit that others use up too.
REFUSED_SHARE = 0.1
ENDPOINT_RATE_PER_S = 1.0  # each question costs tokens
RETRIES = {"no-retry": 0, "budget": 3}
LOAD_TARGET = 1.2


@pytest.mark.benchmark(group="agent-retries")
@pytest.mark.parametrize("policy", list(RETRIES))
def test_requests_per_question(make_agent_target, sized, record_load, policy):
    """Poisson arrivals; nothing is done to the endpoint but asking it.

    With `--agent=endpoint` about 30 questions per policy, one a second. The compared
    value is the response time of a call, retries and waits included.
    """
    agent, stub = make_agent_target(
        {
            "ttft_s": 0.02,
            "itl_s": 0.0,
            "tokens": 5,
            "faults": (Fault(kind="status", status=429, probability=REFUSED_SHARE),),
        },
        timeout_s=60.0,
        max_retries=RETRIES[policy],
        # Its own: what other cases had to spend is none of this one's.
        budget=RetryBudget(),
    )
    rate_per_s = ENDPOINT_RATE_PER_S if stub is None else 20.0
    duration_s = sized(full=30.0 if stub is None else 10.0, smoke=2.0)
    requests = []

    def ask(_context):
        try:
            requests.append(len(agent.ask(QUESTION).attempts))
        except AgentCallError as error:
            requests.append(len(error.attempts))
            raise

    result = run_open_loop(
        ask,
        poisson_arrivals(rate_per_s=rate_per_s, duration_s=duration_s, seed=7),
        workers=64,
        drain_s=30.0,
        grace_s=60.0,
    )
    per_question = sum(requests) / len(requests)
    record_load(
        result,
        details={
            "requests_per_question": round(per_question, 3),
            "requests_per_question_target": LOAD_TARGET,
            "success_share": round(result.completed / len(requests), 4),
        },
    )

    if stub is not None:
        told = stub.statement()
        assert sum(requests) == len(told.entries) + len(told.refusals)
        assert per_question <= LOAD_TARGET
    # Whatever the endpoint does: no more than the budget ever gives.
    most = BUDGET_BURST + BUDGET_RATIO * len(requests) if RETRIES[policy] else 0
    assert sum(requests) - len(requests) <= most
