"""Every fault a stub can do, seen by the client as the error it is."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest

from harness.agents import errors
from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient
from harness.agents.stub.capacity import Capacity
from harness.agents.stub.faults import Fault
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.errors import ConfigError


@contextmanager
def stub_and_client(*, client=None, loop=False, **plan):
    plan = {"ttft_s": 0.0, "itl_s": 0.0, "tokens": 10, **plan}
    kind = AsyncAgentClient if loop else AgentClient
    with AgentStub(StubPlan(**plan)) as stub:
        agent = kind(
            base_url=stub.base_url,
            token=stub.token,
            model=stub.model,
            **{"timeout_s": 10.0, **(client or {})},
        )
        yield stub, agent
        if not loop:
            agent.close()


FAULTS = {
    "status": errors.AgentNotReadyError,
    "html": errors.AgentNotReadyError,
    "reset": errors.AgentConnectionError,
    "close": errors.AgentConnectionError,
    "hang": errors.AgentTimeoutError,
    "reset-mid": errors.AgentStreamTruncatedError,
    "half-close": errors.AgentStreamTruncatedError,
    "truncate": errors.AgentStreamTruncatedError,
    "malformed": errors.AgentBadResponseError,
    "oversized": errors.AgentBadResponseError,
    "error-event": errors.AgentStreamError,
    "untyped-error": errors.AgentStreamError,
    "content-type": errors.AgentBadResponseError,
    "expire-token": errors.AgentAuthError,
}


@pytest.fixture(scope="module")
def faulty():
    """One stub whose nth question meets the nth fault."""
    faults = [Fault(kind=kind, requests=(n,)) for n, kind in enumerate(FAULTS, 1)]
    with stub_and_client(faults=faults, client={"silence_s": 0.3}) as both:
        yield both


def test_each_fault_is_its_own_error_and_the_text_so_far_is_kept(faulty):
    stub, client = faulty
    stub.reset()
    for kind, error in FAULTS.items():
        with pytest.raises(error) as raised:
            client.ask("why?")
        assert type(raised.value) is error, kind
        # What came in one write with an RST may be lost with it.
        if error in {errors.AgentStreamError, errors.AgentBadResponseError}:
            kept = len(raised.value.partial_text.split())
            assert kept == (0 if kind == "content-type" else 3), kind
    assert client.ask("one more").text
    told = [r.error_code for r in stub.statement().refusals]
    assert told == [
        "TEMPORARILY_UNAVAILABLE",
        "TEMPORARILY_UNAVAILABLE",
        "reset",
        "close",
        "hang",
        "UNAUTHENTICATED",
    ]


def test_event_loops_meet_the_same_errors(faulty):
    stub, _ = faulty
    stub.reset()

    async def run():
        async with AsyncAgentClient(
            base_url=stub.base_url, token=stub.token, model=stub.model, silence_s=0.3
        ) as client:
            for kind, error in FAULTS.items():
                with pytest.raises(error) as raised:
                    await client.ask("why?")
                assert type(raised.value) is error, kind

    asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset-mid", errors.AgentStreamTruncatedError),
        ("half-close", errors.AgentStreamTruncatedError),
        ("truncate", errors.AgentStreamTruncatedError),
        ("bad-json", errors.AgentBadResponseError),
        ("untyped-error", errors.AgentServerError),
    ],
)
def test_fault_in_a_whole_body_is_its_own_error(kind, error):
    fault = Fault(kind=kind)
    with stub_and_client(faults=[fault]) as (_, client), pytest.raises(error):
        client.ask("why?", stream=False)


def test_stall_ends_and_the_answer_is_whole():
    stall = Fault(kind="stall", seconds=0.2)
    with stub_and_client(faults=[stall]) as (stub, client):
        answer = client.ask("why?")
        assert len(answer.timing.token_ns) == 10
        assert max(answer.timing.itl_s) > 0.15
        assert client.ask("why?", stream=False).text == answer.text
        # What was held back on purpose is no lateness of the stub's.
        assert stub.statement().lateness_ms.p50 < 150


def test_drip_is_survived_byte_by_byte():
    with stub_and_client(faults=[Fault(kind="drip", seconds=0.0)]) as (_, client):
        assert len(client.ask("why?").text.split()) == 10 + 1  # "guests —" is two


def test_drip_never_outlives_the_deadline():
    plan = {"faults": [Fault(kind="drip", seconds=0.05)]}
    with (
        stub_and_client(**plan, client={"timeout_s": 0.5}) as (_, client),
        pytest.raises(errors.AgentTimeoutError),
    ):
        client.ask("why?")


def test_burst_of_429_is_waited_out_as_asked():
    burst = Fault(kind="status", status=429, requests=(1, 2), retry_after="0")
    with stub_and_client(faults=[burst], client={"max_retries": 3}) as (_, client):
        answer = client.ask("why?")
    assert [a.status for a in answer.attempts] == [429, 429, 200]
    assert answer.attempts[0].reason == (
        "429 REQUEST_LIMIT_EXCEEDED; waited as Retry-After asked"
    )


def test_fault_strikes_by_number_chance_and_time():
    every = Fault(kind="close", every=3)
    assert [every.strikes(n, at_s=0, seed=1) for n in range(1, 7)] == [
        *(False, False, True) * 2
    ]
    chance = Fault(kind="close", probability=0.2)
    struck = [chance.strikes(n, at_s=0, seed=7) for n in range(1000)]
    assert 150 < sum(struck) < 250
    assert struck == [chance.strikes(n, at_s=0, seed=7) for n in range(1000)]
    assert struck != [chance.strikes(n, at_s=0, seed=8) for n in range(1000)]
    window = Fault(kind="close", from_s=1.0, until_s=2.0)
    assert [window.strikes(1, at_s=t, seed=1) for t in (0.5, 1.0, 1.9, 2.0)] == [
        *(False, True, True, False)
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "explode"},
        {"kind": "close", "probability": 2},
        {"kind": "status", "status": 299},
        {"kind": "stall", "seconds": -1},
    ],
    ids=str,
)
def test_impossible_fault_is_refused(wrong):
    with pytest.raises(ConfigError):
        Fault.from_mapping(wrong)


def test_plan_with_everything_survives_json():
    plan = StubPlan(
        faults=(Fault(kind="stall", requests=(1, 2)),),
        capacity=Capacity(slots=3, queue=2),
        itl_trace_s=(0.1, 0.2),
    )
    assert StubPlan.from_mapping(plan.to_mapping()) == plan


def ask_over_https(stub, *, loop):
    arguments = {
        "base_url": stub.base_url,
        "token": stub.token,
        "model": stub.model,
        "ca_pem": stub.ca_pem,
    }
    if loop:
        return asyncio.run(ask_in_loop(arguments))
    with AgentClient(**arguments) as client:
        return client.ask("why?")


async def ask_in_loop(arguments):
    async with AsyncAgentClient(**arguments) as client:
        return await client.ask("why?")


@pytest.mark.parametrize("tls", ["untrusted", "expired", "wrong-host", "broken"])
def test_bad_tls_is_a_connection_error(tls):
    with AgentStub(StubPlan(tls=tls)) as stub:
        for loop in (False, True):
            with pytest.raises(errors.AgentConnectionError):
                ask_over_https(stub, loop=loop)


@pytest.mark.parametrize("loop", [False, True], ids=["thread", "loop"])
def test_https_is_spoken_with_the_root_it_gives(loop):
    with AgentStub(StubPlan(tls="on", ttft_s=0.0)) as stub:
        assert stub.base_url.startswith("https://")
        assert len(ask_over_https(stub, loop=loop).timing.token_ns) == 20
        assert stub.statement().tokens_sent == 20
