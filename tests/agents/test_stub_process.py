"""The stub as a process: it keeps its time, and ends with its parent."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from harness.agents.client import AgentClient
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.errors import ConfigError, TargetError

STUB = [sys.executable, "-m", "harness.agents.stub"]


def client_of(stub, **options):
    return AgentClient(
        base_url=stub.base_url, token=stub.token, model=stub.model, **options
    )


def test_stub_ends_with_its_parent_even_after_kill_9():
    code = (
        "from harness.agents.stub.process import AgentStub\n"
        "stub = AgentStub()\n"
        "print(stub.pid, flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        stub = psutil.Process(int(parent.stdout.readline()))
        assert stub.is_running()
        parent.kill()
    assert not psutil.wait_procs([stub], timeout=10)[1]


def test_stub_in_the_middle_of_an_answer_ends_too():
    with AgentStub(StubPlan(ttft_s=60.0)) as stub, client_of(stub, timeout_s=0.3) as c:
        with pytest.raises(TimeoutError):
            c.ask("why?")
        process = psutil.Process(stub.pid)
    assert not process.is_running()


def test_stub_runs_on_uvloop_too():
    pytest.importorskip("uvloop", reason="needs uvloop (extra: contenders)")
    with AgentStub(StubPlan(ttft_s=0.0), loop="uvloop") as stub, client_of(stub) as c:
        assert len(c.ask("why?").timing.token_ns) == 20
        assert stub.statement().tokens_sent == 20


def test_unknown_loop_is_refused():
    with pytest.raises(TargetError, match="'precise' or 'uvloop'"):
        AgentStub(loop="trio")


def test_public_names_are_loaded_when_they_are_used():
    code = (
        "import sys, harness.agents as agents\n"
        "assert 'harness.agents.client' not in sys.modules\n"
        "assert all(getattr(agents, name) for name in agents.__all__)\n"
        "print(hasattr(agents, 'nothing'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"


def test_close_twice_is_one_close():
    stub = AgentStub()
    stub.close()
    stub.close()
    assert not psutil.pid_exists(stub.pid)


def test_stub_that_is_gone_is_a_target_error():
    with AgentStub() as stub:
        psutil.Process(stub.pid).kill()
        with pytest.raises(TargetError, match="does not answer"):
            stub.statement()


@pytest.mark.parametrize(
    "line", ["[]", "{half", '{"plan": {"tokns": 1}}', '{"plan": 3}']
)
def test_bad_configuration_ends_the_stub_with_one_line(line):
    run = subprocess.run(
        STUB, input=line + "\n", capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith("stub: the first line is no configuration")


def test_stub_started_by_hand_makes_up_its_token():
    with subprocess.Popen(
        STUB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        ready = json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(10) == 0
    assert ready["base_url"].startswith("http://127.0.0.1:")
    assert len(ready["token"]) > 20


def test_one_token_for_each_due_time_and_none_before():
    """Compared by durations: each side reads its own clock."""
    plan = StubPlan(ttft_s=0.05, itl_s=0.01, tokens=10)
    with AgentStub(plan) as stub, client_of(stub) as agent:
        answers = [agent.ask("why?") for _ in range(3)]
        statement = stub.statement()
    for answer, entry in zip(answers, statement.entries, strict=True):
        assert answer.request_id == entry.request_id
        assert entry.first_due_ns - entry.received_ns == 50_000_000
        assert entry.first_written_ns >= entry.first_due_ns
        assert answer.timing.ttft_s >= 0.05
        assert answer.timing.end_to_end_s >= 0.05 + 9 * 0.01
        assert len(answer.timing.token_ns) == entry.tokens_sent == 10
    lateness = statement.lateness_ms
    assert lateness.count == 30
    assert 0.0 <= lateness.p50 <= lateness.p99 <= lateness.max


def test_schedule_does_not_drift():
    """200 relative sleeps of 2 ms would end tens of milliseconds late.

    The last token is late by no more than any other: the best of some runs, since
    one hiccup of the machine is not a drift.
    """
    plan = StubPlan(ttft_s=0.0, itl_s=0.002, tokens=200)
    with AgentStub(plan) as stub, client_of(stub) as agent:
        timings = [agent.ask("why?").timing for _ in range(3)]
    best_s = min(timing.token_ns[-1] - timing.sent_ns for timing in timings) / 1e9
    assert 199 * 0.002 <= best_s < 199 * 0.002 + 0.020


def test_whole_answer_takes_as_long_as_its_stream():
    plan = StubPlan(ttft_s=0.05, itl_s=0.01, tokens=6)
    with AgentStub(plan) as stub, client_of(stub) as agent:
        answer = agent.ask("why?", stream=False)
    assert answer.timing.end_to_end_s >= 0.05 + 5 * 0.01


def test_lognormal_ttft_is_seeded_and_begins_anew_with_a_run():
    plan = StubPlan(ttft_s=0.002, itl_s=0.0, tokens=1, ttft_sigma=0.5, seed=7)
    with AgentStub(plan) as stub, client_of(stub) as agent:
        runs = []
        for _ in range(2):
            stub.reset()
            for _ in range(5):
                agent.ask("why?")
            entries = stub.statement().entries
            runs.append([entry.first_due_ns - entry.received_ns for entry in entries])
    assert runs[0] == runs[1] == [plan.ttft_ns(index) for index in range(5)]
    assert len(set(runs[0])) == 5


def test_lognormal_ttft_has_the_median_it_was_given():
    plan = StubPlan(ttft_s=0.1, ttft_sigma=0.5)
    draws = sorted(plan.ttft_ns(index) for index in range(2001))
    assert draws[1000] == pytest.approx(0.1e9, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [{"ttft_s": -1.0}, {"itl_s": float("nan")}, {"tokens": 0}, {"block_tokens": 0}],
    ids=str,
)
def test_impossible_plan_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        StubPlan(**wrong)


@pytest.mark.parametrize("created", [True, False])
@pytest.mark.parametrize("completed", [True, False])
def test_client_understands_every_stream_the_stub_may_send(created, completed):
    plan = StubPlan(ttft_s=0, itl_s=0, tokens=9, created=created, completed=completed)
    with AgentStub(plan) as stub, client_of(stub) as agent:
        streamed, whole = agent.ask("why?"), agent.ask("why?", stream=False)
    assert streamed.text == whole.text
    assert streamed.blocks == whole.blocks
    assert len(streamed.blocks) == 2
    assert (streamed.usage is not None) == completed
