"""What do retries do to an agent endpoint that can serve only a fifth for a while?"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from harness.agents.errors import AgentCallError
from harness.agents.stub.capacity import Capacity
from harness.clock import NS_PER_S
from harness.load import poisson_arrivals, run_open_loop
from harness.retry_budget import RetryBudget

QUESTION = "How many connections does a pool hold?"
RATE_PER_S = 40.0
SLOTS, ANSWER_S = 10, 0.2  # 50 answers a second; a fifth of it in the brown-out
BROWNOUT_SLOTS = 2
BEFORE_S = 3.0
LOAD_TARGET = 1.2
RECOVERY_TARGET_S = 10.0
# Chance moves the share of answered questions by about so much between runs.
SUCCESS_SLACK = 0.03
POLICIES = {
    "no-retry": {"max_retries": 0},
    "budget": {"max_retries": 3, "retry_delay_s": 30.0},
    # What a budget is for: the same retries without one.
    "unlimited": {
        "max_retries": 3,
        "retry_delay_s": 30.0,
        "budget": RetryBudget(ratio=1.0, burst=1e9),
    },
}


@pytest.fixture(scope="module")
def successes():
    """Share of answered questions by policy, of the cases run so far."""
    return {}


@pytest.fixture
def stub_only(pytestconfig):
    """Nobody makes a brown-out in a real endpoint: others ask it too."""
    if pytestconfig.getoption("--agent") != "stub":
        pytest.skip(
            "a brown-out is only made in a stub: run it with --agent=stub, and "
            "benchmarks/test_agent_retries.py against the endpoint"
        )


@pytest.mark.benchmark(group="agent-brownout")
@pytest.mark.usefixtures("stub_only")
@pytest.mark.parametrize("policy", list(POLICIES))
def test_brownout(make_agent_stub, make_agent, sized, record_load, successes, policy):
    """Poisson arrivals at 80 % of what the endpoint serves; then it serves 20 %.

    The compared value is the response time of a call, retries and waits included.
    """
    brownout_s = sized(full=8.0, smoke=2.0)
    after_s = sized(full=12.0, smoke=3.0)
    before_s = sized(full=BEFORE_S, smoke=1.0)
    stub = make_agent_stub(
        ttft_s=ANSWER_S,
        itl_s=0.0,
        tokens=5,
        capacity=Capacity(
            slots=SLOTS,
            queue=5,
            brownout_from_s=before_s,
            brownout_until_s=before_s + brownout_s,
            brownout_slots=BROWNOUT_SLOTS,
        ),
    )
    agent = make_agent(stub, timeout_s=60.0, **POLICIES[policy])
    retried = []

    def ask(_context):
        answer = agent.ask(QUESTION)
        retried.append(len(answer.attempts) - 1)

    result = run_open_loop(
        ask,
        poisson_arrivals(
            rate_per_s=RATE_PER_S,
            duration_s=before_s + brownout_s + after_s,
            seed=7,
        ),
        workers=200,
        drain_s=30.0,
        grace_s=60.0,
    )
    told = account(stub, before_s, brownout_s, after_s)
    asked = result.completed + result.failed
    success = result.completed / asked
    record_load(
        result,
        details={
            **told,
            "success_share": round(success, 4),
            "retries_of_answered_count": int(sum(retried)),
            "brownout_load_target": LOAD_TARGET,
            "recovery_s_target": RECOVERY_TARGET_S,
        },
    )

    assert all(isinstance(e, AgentCallError) for e in result.examples.values())
    # Every request sent is in the stub's journal: answered or refused.
    assert told["requests_count"] >= asked
    if policy == "budget" and brownout_s >= 8:
        assert told["brownout_load"] <= LOAD_TARGET
        assert told["recovery_s"] < RECOVERY_TARGET_S
        # Run before this one, unless it was deselected.
        assert success >= successes.get("no-retry", 0.0) - SUCCESS_SLACK
    successes[policy] = success


def account(stub, before_s, brownout_s, after_s):
    """What the stub says of the run: load over what was offered, and recovery."""
    statement = stub.statement()
    arrived_ns = sorted(
        [entry.received_ns for entry in statement.entries]
        + [refusal.received_ns for refusal in statement.refusals]
    )
    at_s = (np.array(arrived_ns) - arrived_ns[0]) / NS_PER_S
    refused_s = np.array(
        [(r.received_ns - arrived_ns[0]) / NS_PER_S for r in statement.refusals]
    )
    ends_s = before_s + brownout_s
    within = ((at_s >= before_s) & (at_s < ends_s)).sum()
    late = refused_s[refused_s >= ends_s] - ends_s
    per_second = np.bincount(at_s.astype(int))
    return {
        "requests_count": len(arrived_ns),
        # Requests that reached it in the brown-out, over the arrivals offered then.
        "brownout_load": round(float(within / (RATE_PER_S * brownout_s)), 3),
        "peak_requests_per_s": int(per_second.max()),
        # From the end of the brown-out until two seconds without a refusal.
        "recovery_s": round(recovery_s(late, after_s), 2),
        "refused_count": len(refused_s),
    }


def recovery_s(late, after_s, *, quiet_s=2.0):
    moments = [0.0, *sorted(late.tolist()), after_s]
    for earlier, later in pairwise(moments):
        if later - earlier >= quiet_s:
            return earlier
    return after_s
