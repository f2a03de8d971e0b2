"""A stub of a certain size: slots, a queue, a true Retry-After, a start from zero."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.agents import errors
from harness.agents.client import AgentClient
from harness.agents.stub.capacity import Capacity, FullError, Slots, StartingError
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.clock import NS_PER_S


class Line:
    """Questions of a certain length before a `Slots`."""

    def __init__(self, **capacity):
        self.slots = Slots(Capacity(**capacity))
        self.began = []

    def ask(self, at_s, *, takes_s=1.0):
        return self.slots.enter(
            round(at_s * NS_PER_S),
            lambda at_ns: self.began.append(at_ns / NS_PER_S),
            takes_ns=round(takes_s * NS_PER_S),
        )


def test_question_beyond_the_slots_waits_its_turn():
    line = Line(slots=1, queue=2)
    assert line.ask(0.0)
    assert not line.ask(0.1)
    assert not line.ask(0.2)
    line.slots.leave(NS_PER_S)
    assert line.began == [0.0, 1.0]
    line.slots.leave(2 * NS_PER_S)
    assert line.began == [0.0, 1.0, 2.0]


def test_question_beyond_the_queue_is_told_when_a_slot_is_free():
    line = Line(slots=2, queue=0)
    line.ask(0.0, takes_s=5.0)
    line.ask(1.0, takes_s=2.0)
    with pytest.raises(FullError) as raised:
        line.ask(2.0)
    assert raised.value.free_in_s == pytest.approx(1.0)


def test_first_question_starts_a_server_and_others_do_not_start_it_anew():
    line = Line(start_s=3.0)
    for at_s, left_s in ((10.0, 3.0), (12.0, 1.0)):
        with pytest.raises(StartingError) as raised:
            line.ask(at_s)
        assert raised.value.ready_in_s == pytest.approx(left_s)
    assert line.ask(13.0)


def test_looking_at_the_state_starts_no_server():
    slots = Slots(Capacity(start_s=3.0))
    assert not slots.is_running(0)
    assert not slots.is_running(10 * NS_PER_S)


def test_brownout_takes_slots_away_and_gives_them_back():
    line = Line(slots=2, brownout_from_s=1.0, brownout_until_s=2.0, brownout_slots=1)
    assert line.ask(0.0)
    line.slots.leave(round(0.5 * NS_PER_S))
    assert line.ask(1.1)
    with pytest.raises(FullError):
        line.ask(1.2)
    assert line.ask(2.0)


def client_of(stub, **options):
    return AgentClient(
        base_url=stub.base_url, token=stub.token, model=stub.model, **options
    )


def test_queue_is_served_in_order_and_its_wait_is_in_the_journal():
    plan = StubPlan(
        ttft_s=0.4, itl_s=0.0, tokens=2, capacity=Capacity(slots=1, queue=10)
    )
    with (
        AgentStub(plan) as stub,
        client_of(stub) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = list(pool.map(client.ask, ["why?"] * 3))
        entries = stub.statement().entries
    assert all(answer.text for answer in answers)
    waits_s = sorted(entry.queued_ns / NS_PER_S for entry in entries)
    assert waits_s[0] == 0.0
    assert 0.05 < waits_s[1] < waits_s[2]


def test_full_endpoint_refuses_with_the_platforms_error():
    plan = StubPlan(ttft_s=5.0, capacity=Capacity(slots=1))
    with (
        AgentStub(plan) as stub,
        client_of(stub) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client_of(stub, timeout_s=2.5).ask, "why?")
        while not stub.statement().requests_count:
            pass  # until the slot is taken
        with pytest.raises(errors.AgentRateLimitedError) as raised:
            client.ask("why?")
        assert isinstance(first.exception(), errors.AgentTimeoutError)
    assert raised.value.error_code == "REQUEST_LIMIT_EXCEEDED"
    assert raised.value.retry_after_s in {3.0, 4.0, 5.0, 6.0}


def test_endpoint_at_zero_is_waited_for_with_progress():
    plan = StubPlan(ttft_s=0.0, capacity=Capacity(start_s=1.0))
    with AgentStub(plan) as stub, client_of(stub, max_retries=3) as client:
        state = client.state()
        assert not state.ready
        assert state.scaled_to_zero
        answer = client.ask("why?")
        assert [attempt.status for attempt in answer.attempts] == [503, 200]
        assert answer.attempts[0].wait_s == 1.0
        seen = []
        assert client.wait_ready(on_progress=lambda s, _t: seen.append(s.ready)).ready
        assert seen == [True]
