"""`lakegauge agent ...`: what it prints, what it never prints, how it exits."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from harness.agents.cli import token_kind
from harness.agents.client import AgentClient
from harness.agents.stub.capacity import Capacity
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub
from harness.cli import app
from harness.clock import SYSTEM_CLOCK

CANARY = "dapi-canary-1234567890"
VARIABLES = {
    "DATABRICKS_TOKEN": CANARY,
    "DATABRICKS_BASE_URL": "https://dbc.example/serving-endpoints",
    "DATABRICKS_MODEL": "ka-1-endpoint",
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run `lakegauge agent ...` in an empty folder with these variables only."""
    monkeypatch.chdir(tmp_path)
    names = (*VARIABLES, "DATABRICKS_HOST", "DATABRICKS_CLIENT_ID")
    for name in (*names, "DATABRICKS_CLIENT_SECRET", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(app, ["agent", *arguments])

    return run


def test_missing_names_each_required_setting_and_exits_1(run):
    """The original mixed required with optional ones, and exited with 0."""
    result = run("config", "missing")
    assert result.exit_code == 1
    for name in VARIABLES:
        assert name in result.output
    assert "AGENTBRICKS" not in result.output


def test_nothing_missing_exits_0(run):
    assert run("config", "missing", **VARIABLES).exit_code == 0


def test_service_principal_is_enough_without_a_token(run):
    given = {
        "DATABRICKS_CLIENT_ID": "id",
        "DATABRICKS_CLIENT_SECRET": "secret-of-it",
        "DATABRICKS_WORKSPACE_URL": "https://dbc.example",
        "DATABRICKS_MODEL": "ka-1-endpoint",
    }
    assert run("config", "missing", **given).exit_code == 0


def test_no_setting_has_an_invented_value(run):
    """The original showed somebody's workspace and called it valid."""
    told = json.loads(run("config", "current", "--json").output)["settings"]
    for path in ("agent.token", "agent.base_url", "agent.model"):
        assert told[path]["value"] is None


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_current_masks_the_token_and_tells_its_kind(run, form):
    result = run("config", "current", *form, **VARIABLES)
    assert result.exit_code == 0
    assert CANARY not in result.output
    assert "personal access token" in result.output
    assert "dbc.example" in result.output


def test_help_lists_the_agents_settings_only(run):
    result = run("config", "help")
    assert result.exit_code == 0
    assert "AGENTBRICKS_TIMEOUT" in result.output
    assert "POOL_SIZE" not in result.output


def test_wrong_value_is_one_line_and_exits_2(run):
    """The original showed a traceback."""
    result = run("config", "current", AGENTBRICKS_TIMEOUT="soon")
    assert result.exit_code == 2
    assert "AGENTBRICKS_TIMEOUT = 'soon'" in result.output
    assert "Traceback" not in result.output


def test_unknown_command_exits_2(run):
    assert run("config", "shew").exit_code == 2


def jwt(ends_s):
    claims = base64.urlsafe_b64encode(json.dumps({"exp": ends_s}).encode()).decode()
    return f"e30.{claims.rstrip('=')}.sig"


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("dapi0123", "personal access token"),
        ("opaque", "not known"),
        ("a.b.c", "OAuth access token"),
    ],
)
def test_kind_of_a_token_is_told_without_it(token, told):
    assert told in token_kind(SecretStr(token))
    assert token not in token_kind(SecretStr(token))


def test_end_of_a_jwt_is_told():
    now_s = SYSTEM_CLOCK.now().timestamp()
    assert "expired" in token_kind(SecretStr(jwt(now_s - 60)))
    assert "good for" in token_kind(SecretStr(jwt(now_s + 60)))


def variables_of(stub):
    return {
        "DATABRICKS_TOKEN": stub.token.get_secret_value(),
        "DATABRICKS_BASE_URL": stub.base_url,
        "DATABRICKS_MODEL": stub.model,
    }


def test_ready_exits_by_what_the_workspace_says(run):
    with AgentStub() as stub:
        result = run("ready", **variables_of(stub))
    assert result.exit_code == 0
    assert "ka-00000000-endpoint (agent/v1/responses): ready" in result.output


def test_endpoint_at_zero_is_not_ready_and_exits_1(run):
    with AgentStub(StubPlan(capacity=Capacity(start_s=60))) as stub:
        result = run("ready", **variables_of(stub))
    assert result.exit_code == 1
    assert "scaled to zero" in result.output


def test_ask_prints_text_and_citations_and_no_passage(run):
    with AgentStub(StubPlan(ttft_s=0.0, itl_s=0.0, footnotes=True)) as stub:
        result = run("ask", "why?", **variables_of(stub))
    assert result.exit_code == 0
    assert "A pool holds as many" in result.stdout
    assert "[/Volumes/main/docs/guides/guide-0.pdf, page 1]" in result.stdout
    assert "[^" not in result.stdout
    assert "%20" not in result.output


def test_failure_of_ask_is_one_line_and_exits_2(run):
    with AgentStub() as stub:
        variables = {**variables_of(stub), "DATABRICKS_TOKEN": CANARY}
        result = run("ask", "why?", **variables)
    assert result.exit_code == 2
    assert "401" in result.output
    assert CANARY not in result.output


def test_stub_serves_until_interrupted_and_states_its_lateness(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text('{"ttft_s": 0.0, "tokens": 3}')
    command = [Path(sys.executable).parent / "lakegauge", "agent", "stub"]
    process = subprocess.Popen(
        [*command, "--plan", plan], stdout=subprocess.PIPE, text=True
    )
    with process:
        told = dict(process.stdout.readline().strip().split("=", 1) for _ in range(3))
        with AgentClient(
            base_url=told["DATABRICKS_BASE_URL"],
            token=SecretStr(told["DATABRICKS_TOKEN"]),
            model=told["DATABRICKS_MODEL"],
        ) as client:
            assert client.ask("why?").text == "A pool holds "
        process.send_signal(signal.SIGINT)
        last = process.stdout.read()
    assert process.returncode == 0
    assert "1 questions answered, 3 tokens, refused: none; its own lateness" in last


def test_plan_that_is_none_is_one_line_and_exits_2(run, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text('{"tokns": 3}')
    result = run("stub", "--plan", str(plan))
    assert result.exit_code == 2
    assert "tokns" in result.output
    assert "Traceback" not in result.output
