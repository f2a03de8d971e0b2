"""When a stub's tokens are due: constant, random or as seen elsewhere."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest

from harness.agents.proof import prove_tokens
from harness.agents.stub.plan import StubPlan
from harness.errors import ConfigError

MS = 1_000_000


def gaps_ns(plan, index=0):
    return [b - a for a, b in pairwise(plan.token_offsets_ns(index))]


def test_constant_gaps_are_multiples_from_the_start():
    plan = StubPlan(itl_s=0.005, tokens=1000)
    offsets = plan.token_offsets_ns(0)
    assert len(offsets) == 1000
    assert offsets[999] == 999 * 5 * MS


def test_no_gap_puts_all_tokens_at_once():
    assert list(StubPlan(itl_s=0.0, tokens=4).token_offsets_ns(0)) == [0, 0, 0, 0]


def test_lognormal_gaps_have_the_median_asked_for_and_are_the_same_each_time():
    plan = StubPlan(itl_s=0.01, itl_sigma=0.5, tokens=2001, seed=3)
    gaps = gaps_ns(plan)
    assert median(gaps) == pytest.approx(10 * MS, rel=0.05)
    assert len(set(gaps)) > 1900
    assert gaps == gaps_ns(plan)
    assert gaps != gaps_ns(plan, index=1)


def test_trace_of_gaps_is_used_in_turn_over_questions():
    plan = StubPlan(itl_trace_s=(0.001, 0.002, 0.003), tokens=3)
    assert gaps_ns(plan, 0) == [1 * MS, 2 * MS]
    assert gaps_ns(plan, 1) == [3 * MS, 1 * MS]


def test_trace_of_ttfts_is_used_in_turn():
    plan = StubPlan(ttft_trace_s=(0.1, 0.3))
    assert [plan.ttft_ns(i) // MS for i in range(4)] == [100, 300, 100, 300]


def test_lognormal_lengths_have_the_median_asked_for_and_are_the_same_each_time():
    plan = StubPlan(tokens=100, tokens_sigma=0.6, seed=3)
    lengths = [plan.tokens_count(i) for i in range(2000)]
    assert median(lengths) == pytest.approx(100, rel=0.05)
    # A lognormal's own spread: two thirds lie within one sigma of the median.
    within = sum(100 / 1.822 <= length <= 100 * 1.822 for length in lengths)
    assert within / 2000 == pytest.approx(0.683, abs=0.04)
    assert lengths == [plan.tokens_count(i) for i in range(2000)]
    assert lengths != [
        StubPlan(tokens=100, tokens_sigma=0.6, seed=4).tokens_count(i)
        for i in range(2000)
    ]
    assert 1 <= min(lengths) <= max(lengths) <= plan.tokens_max == 605


def test_trace_of_lengths_is_used_in_turn():
    plan = StubPlan(tokens_trace=(3, 1, 20))
    assert [len(plan.token_offsets_ns(i)) for i in range(4)] == [3, 1, 20, 3]
    assert plan.tokens_max == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"itl_trace_s": [0.1, -0.1]},
        {"ttft_trace_s": [float("nan")]},
        {"itl_sigma": -1},
        {"tokens_sigma": -1},
        {"tokens_sigma": 5.0, "tokens": 1000},
        {"tokens_trace": [3, 0]},
        {"tokens_trace": [2.5]},
        {"tokens_trace": [10**9]},
        {"replay_speed": 0},
        {"tls": "maybe"},
        {"capacity": {"slots": -1}},
        {"capacity": {"slts": 1}},
        {"faults": [{"knd": "close"}]},
    ],
    ids=str,
)
def test_impossible_plan_is_refused(wrong):
    with pytest.raises(ConfigError):
        StubPlan.from_mapping(wrong)


@pytest.mark.parametrize("route", ["responses", "chat"])
def test_answers_have_the_lengths_of_the_plan_on_the_wire(
    make_agent_stub, make_agent, route
):
    lengths = (3, 1, 8, 20)
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0, block_tokens=4, tokens_trace=lengths)
    agent = make_agent(stub, route=route)
    streamed = [agent.ask("why?") for _ in lengths]
    proof = prove_tokens(stub.statement(), streamed)
    whole = [agent.ask("why?", stream=False) for _ in lengths]

    assert proof.tokens_count == sum(lengths)
    assert [len(answer.timing.token_ns) for answer in streamed] == list(lengths)
    assert [answer.usage.output_tokens for answer in whole] == list(lengths)
    assert [answer.text for answer in whole] == [answer.text for answer in streamed]
    assert len({answer.text for answer in whole}) == len(lengths)
    if route == "responses":
        assert [len(answer.blocks) for answer in whole] == [1, 1, 2, 5]
