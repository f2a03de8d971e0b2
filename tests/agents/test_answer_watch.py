"""Answers that are watched while they come."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from harness.agents.answer_watch import UNANSWERED, AnswerWatch
from harness.agents.answered import ANSWERED, KEPT_MAX
from harness.agents.errors import AgentCallError, AgentTimeoutError
from harness.clock import NS_PER_MS, ManualClock
from harness.load.underway import Failures


@pytest.fixture(autouse=True)
def none_left():
    ANSWERED.clear()
    yield
    ANSWERED.clear()


@pytest.fixture
def clock():
    clock = ManualClock()
    clock.advance(100)
    return clock


@pytest.fixture
def failures(clock):
    return Failures(clock)


def answered(clock, name="stub", *, ttft_ms=20, whole_ms=100, ago_ms=0, asked=""):
    done_ns = clock.monotonic_ns() - ago_ms * NS_PER_MS
    sent_ns = done_ns - whole_ms * NS_PER_MS
    ANSWERED.append((name, sent_ns, sent_ns + ttft_ms * NS_PER_MS, done_ns, asked))


def failed(asked):
    error = AgentTimeoutError("late")
    error.asked = asked
    return error


def test_answers_of_the_stub_are_seen_as_the_client_timed_them(
    agent_stub, make_agent, monkeypatch
):
    monkeypatch.setattr("harness.agents.answer_watch.WINDOW_NS", 600_000_000_000)
    watch = AnswerWatch()
    client = make_agent(agent_stub)
    timings = [client.ask("why?", stream=True).timing for _ in range(3)]

    (agent,) = watch.look()

    assert (agent.name, agent.requests_total, agent.errors_total) == (
        agent_stub.model,
        3,
        0,
    )
    assert agent.ttft.count == agent.end_to_end.count == 3
    ttfts_ms = sorted(timing.ttft_s * 1000 for timing in timings)
    assert agent.ttft.p50_ms == pytest.approx(ttfts_ms[1])
    wholes_ms = sorted(timing.end_to_end_s * 1000 for timing in timings)
    assert agent.end_to_end.p99_ms == pytest.approx(wholes_ms[2])


def test_times_are_of_the_last_seconds_and_totals_of_the_whole_watch(clock, failures):
    watch = AnswerWatch(clock=clock, failures=failures)
    answered(clock, whole_ms=100)
    watch.look()
    clock.advance(20)
    answered(clock, whole_ms=300)

    (agent,) = watch.look()

    assert agent.requests_total == 2
    assert (agent.end_to_end.count, agent.end_to_end.p50_ms) == (1, 300)


def test_answers_of_before_somebody_looked_are_not_counted(clock, failures):
    for _ in range(KEPT_MAX + 10):
        answered(clock, ago_ms=60_000)

    assert AnswerWatch(clock=clock, failures=failures).look() == []
    assert not ANSWERED


def test_failed_questions_count_among_those_asked(clock, failures):
    failures.note(AgentTimeoutError("before"))
    watch = AnswerWatch(clock=clock, failures=failures)
    failures.note(AgentTimeoutError("late"))
    failures.note(ValueError("no agent's"))
    (none,) = watch.look()
    assert (none.name, none.requests_total, none.errors_total) == (UNANSWERED, 1, 1)
    answered(clock)

    (agent,) = watch.look()

    assert (agent.name, agent.requests_total, agent.errors_total) == ("stub", 2, 1)


def test_of_two_agents_each_has_its_own_times(clock, failures):
    watch = AnswerWatch(clock=clock, failures=failures)
    answered(clock, "slow", ttft_ms=900, whole_ms=1000)
    answered(clock, "fast", ttft_ms=9, whole_ms=10)

    found = {agent.name: agent.ttft.p50_ms for agent in watch.look()}

    assert found == {"slow": 900, "fast": 9}


def test_failures_count_for_the_endpoint_that_was_asked(clock, failures):
    """It answers under the name of what it serves; one that never does has its own."""
    watch = AnswerWatch(clock=clock, failures=failures)
    answered(clock, "model-a", asked="endpoint-a")
    answered(clock, "model-b", asked="endpoint-b")
    for asked in ("endpoint-b", "endpoint-b", "endpoint-c"):
        failures.note(failed(asked))
    failures.note(AgentTimeoutError("whose?"))

    found = {a.name: (a.requests_total, a.errors_total) for a in watch.look()}

    assert found == {
        "model-a": (1, 0),
        "model-b": (3, 2),
        "endpoint-c": (1, 1),
        UNANSWERED: (1, 1),
    }


def test_the_client_says_which_endpoint_failed(agent_stub, make_agent):
    client = make_agent(agent_stub, token=SecretStr("somebody-elses"))

    with pytest.raises(AgentCallError) as caught:
        client.ask("why?")

    assert caught.value.asked == client.model
