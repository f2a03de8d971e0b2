"""Recording an endpoint and replaying it: timing kept, words gone."""

from __future__ import annotations

import json

import pytest

from harness.agents.client import AgentClient
from harness.agents.recording import (
    Scrubber,
    load_recordings,
    record_answers,
    save_recordings,
)
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.errors import ConfigError


def client_of(stub):
    return AgentClient(base_url=stub.base_url, token=stub.token, model=stub.model)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(recordings, the answer they are of), made with a stub as the endpoint."""
    plan = StubPlan(
        ttft_s=0.1, itl_trace_s=(0.02, 0.0, 0.15), tokens=10, traced=True, created=True
    )
    path = tmp_path_factory.mktemp("recorded") / "answers.json"
    with AgentStub(plan) as stub, client_of(stub) as client:
        save_recordings(record_answers(client, ["a secret question"]), path)
        return path, client.ask("a secret question")


def test_replay_keeps_shape_and_timing(recorded):
    path, original = recorded
    plan = StubPlan(replay=load_recordings(path))
    with AgentStub(plan) as stub, client_of(stub) as client:
        answer = client.ask("why?")
        late = stub.statement().lateness_ms
    assert [len(b.text) for b in answer.blocks] == [
        len(b.text) for b in original.blocks
    ]
    assert [c.page for c in answer.citations] == [c.page for c in original.citations]
    assert answer.usage == original.usage
    # Each gap as recorded, as far as both stubs kept their time.
    slack_s = 0.02 + late.max / 1000
    gaps = zip(answer.timing.itl_s, original.timing.itl_s, strict=True)
    assert all(abs(a - b) < slack_s for a, b in gaps)
    assert answer.timing.ttft_s == pytest.approx(original.timing.ttft_s, abs=slack_s)


def test_replay_may_be_faster_than_life(recorded):
    path, original = recorded
    plan = StubPlan(replay=load_recordings(path), replay_speed=4.0)
    with AgentStub(plan) as stub, client_of(stub) as client:
        answer = client.ask("why?")
    assert answer.timing.end_to_end_s < original.timing.end_to_end_s / 2


def test_replay_answers_in_one_body_too(recorded):
    plan = StubPlan(replay=load_recordings(recorded[0]), replay_speed=100.0)
    with AgentStub(plan) as stub, client_of(stub) as client:
        answer = client.ask("why?", stream=False)
    assert answer.text.startswith("x xxxx xxxxx")


def test_recording_holds_nothing_that_was_said_or_cited(recorded):
    path, original = recorded
    text = path.read_text()
    for word in ("pool", "connections", "café", "guide", "A%20pool", "secret"):
        assert word not in text
    assert original.request_id not in text


def test_scrubber_keeps_what_the_protocol_says():
    event = {
        "type": "response.output_text.delta",
        "item_id": "msg_7",
        "content_index": 3,
        "delta": "Über 40[^UCVq-1]\n",
        "obfuscation": "hunter2",
    }
    clean = json.loads(Scrubber().event(json.dumps(event)))
    assert clean["type"] == event["type"]
    assert clean["content_index"] == 3
    assert clean["delta"] == "xxxx xx[^UCVq-1]\n"
    assert "hunter2" not in str(clean)
    assert "msg_7" not in str(clean)


def test_scrubber_gives_the_same_id_the_same_name():
    scrub = Scrubber()
    one = json.loads(scrub.event('{"item_id": "a"}'))
    two = json.loads(scrub.event('{"item": {"id": "a"}}'))
    other = json.loads(scrub.event('{"item_id": "b"}'))
    assert one["item_id"] == two["item"]["id"] != other["item_id"]


def test_scrubber_empties_what_is_no_json():
    assert Scrubber().event("token=hunter2") == "xxxxx=xxxxxxx"


@pytest.mark.parametrize("text", ["", "{}", "[]", "nope"])
def test_file_without_recordings_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no recordings"):
        load_recordings(path)


@pytest.mark.parametrize(
    "recording",
    [
        {},
        {"format": 1, "frames": []},
        {"format": 9, "frames": [[0, "x"]]},
        {"format": 1, "frames": [[1, "x"], [0, "x"]]},
    ],
    ids=str,
)
def test_bad_recording_is_refused_by_the_stub(recording):
    from harness.agents.stub.replay import ReplayScript

    with pytest.raises(ConfigError):
        ReplayScript(recording, speed=1.0)
