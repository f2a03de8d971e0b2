"""The token goes into one header, and nowhere else."""

from __future__ import annotations

import json
import logging
import traceback

import psutil
import pytest
from pydantic import SecretStr

from harness.agents.client import AgentClient
from harness.agents.errors import AgentCallError
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.errors import ConfigError


def test_token_echoed_by_the_server_is_in_no_message(ask, wire):
    body = json.dumps({"error_code": "X", "message": f"got Bearer {wire.TOKEN}"})
    with pytest.raises(AgentCallError) as raised:
        ask(wire.whole("400 Bad Request", body.encode()))
    assert wire.TOKEN not in str(raised.value)
    assert wire.TOKEN not in repr(raised.value)
    assert "got Bearer **********" in str(raised.value)


def test_token_echoed_inside_a_stream_is_in_no_message(ask, wire):
    with pytest.raises(AgentCallError) as raised:
        ask(wire.events(json.dumps({"error": f"bad {wire.TOKEN}"})))
    assert wire.TOKEN not in str(raised.value)


@pytest.mark.parametrize("step", ["RESET", "HANG"])
def test_token_is_in_no_log_and_no_traceback_with_locals(ask, wire, caplog, step):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AgentCallError) as raised:
        ask([getattr(wire, step)], timeout_s=0.3)
    assert caplog.text, "the HTTP library logs its steps at this level"
    assert wire.TOKEN not in caplog.text
    shown = traceback.TracebackException.from_exception(
        raised.value, capture_locals=True
    )
    frames = "".join(shown.format())
    # The test's own frames and the HTTP library's are not ours to clean.
    ours = [
        line
        for part in frames.split("  File ")
        if "/harness/agents/" in part.partition("\n")[0]
        for line in part.splitlines()
    ]
    assert ours
    assert not [line for line in ours if wire.TOKEN in line]


def test_token_is_in_no_repr_of_the_client():
    with AgentClient(
        base_url="https://x/serving-endpoints", token=SecretStr("canary"), model="m"
    ) as client:
        assert "canary" not in repr(client)
        assert "canary" not in repr(vars(client))


def test_password_in_the_url_is_refused_without_being_shown():
    with pytest.raises(ConfigError, match="user name or password") as raised:
        AgentClient(
            base_url="https://me:canary@x/serving-endpoints",
            token=SecretStr("t"),
            model="m",
        )
    assert "canary" not in str(raised.value)


def test_secrets_reach_neither_arguments_nor_environment_of_the_stub(monkeypatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", "canary-of-the-parent")
    with AgentStub(StubPlan(ttft_s=0.0)) as stub:
        process = psutil.Process(stub.pid)
        arguments, environment = process.cmdline(), str(process.environ())
        assert "harness.agents.stub" in arguments
        assert "PATH" in environment
        for secret in (stub.token.get_secret_value(), "canary-of-the-parent"):
            assert secret not in str(arguments)
            assert secret not in environment
        assert stub.token.get_secret_value() not in repr(stub)
