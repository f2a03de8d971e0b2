"""Recording an endpoint and replaying it: timing kept, words gone."""

from __future__ import annotations

import json
from itertools import accumulate, cycle, islice

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
from harness.agents.stub.replay import ReplayScript
from harness.errors import ConfigError


def client_of(stub):
    return AgentClient(base_url=stub.base_url, token=stub.token, model=stub.model)


GAPS_S = (0.02, 0.0, 0.15)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(recordings, an answer alike), made with a stub as the endpoint."""
    plan = StubPlan(
        ttft_s=0.1, itl_trace_s=GAPS_S, tokens=10, traced=True, created=True
    )
    path = tmp_path_factory.mktemp("recorded") / "answers.json"
    with AgentStub(plan) as stub, client_of(stub) as client:
        save_recordings(record_answers(client, ["a secret question"]), path)
        return path, client.ask("a secret question")


def test_recording_has_the_time_of_every_event(recorded):
    """A stub never writes early; how late a busy machine read is no error here."""
    (recording,) = load_recordings(recorded[0])
    deltas_s = [
        at_s for at_s, data in recording["frames"] if "output_text.delta" in data
    ]
    due_s = list(accumulate(islice(cycle(GAPS_S), 9), initial=0.1))
    assert len(deltas_s) == len(due_s) == 10
    assert all(at_s >= due for at_s, due in zip(deltas_s, due_s, strict=True))
    assert deltas_s == sorted(deltas_s)


def test_replay_keeps_the_time_of_every_event(recorded):
    (recording,) = load_recordings(recorded[0])
    script = ReplayScript(recording, speed=1.0)
    replayed_s = [(script.ttft_ns + ns) / 1e9 for ns in script.offsets_ns(0)]
    assert replayed_s == pytest.approx([at_s for at_s, _ in recording["frames"]])


def test_replay_may_be_faster_than_life(recorded):
    (recording,) = load_recordings(recorded[0])
    life, fast = (ReplayScript(recording, speed=speed) for speed in (1.0, 4.0))
    assert fast.ttft_ns == pytest.approx(life.ttft_ns / 4, abs=1)
    assert fast.offsets_ns(0)[-1] == pytest.approx(life.offsets_ns(0)[-1] / 4, abs=2)


def test_replay_has_the_shape_and_takes_its_time(recorded):
    path, original = recorded
    plan = StubPlan(replay=load_recordings(path))
    with AgentStub(plan) as stub, client_of(stub) as client:
        answer = client.ask("why?")
        (entry,) = stub.statement().entries
    assert [len(b.text) for b in answer.blocks] == [
        len(b.text) for b in original.blocks
    ]
    assert [c.page for c in answer.citations] == [c.page for c in original.citations]
    assert answer.usage == original.usage
    # The last of ten tokens is not due before all the gaps have passed.
    assert answer.timing.end_to_end_s >= 0.1 + 3 * sum(GAPS_S)
    assert entry.first_due_ns - entry.received_ns == pytest.approx(
        ReplayScript(plan.replay[0], speed=1.0).ttft_ns
    )


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
    with pytest.raises(ConfigError):
        ReplayScript(recording, speed=1.0)
