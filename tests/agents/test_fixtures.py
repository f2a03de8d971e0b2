"""The fixtures, in a pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

AGENT_TEST = """
def test_answer(agent, agent_proof):
    agent_proof.begin()
    answer = agent.ask("why?")
    assert agent_proof.check([answer])["tokens_count"] == 20
"""
BENCHMARK = """
def test_ttft(agent, agent_proof, record_durations):
    agent_proof._strict = False  # a busy machine is no failure of this test
    agent_proof.begin()
    answers = [agent.ask("why?") for _ in range(8)]
    record_durations(
        [a.timing.ttft_s for a in answers],
        measure="ttft",
        wall_s=1.0,
        details=agent_proof.check(answers),
    )

def test_made(make_agent_stub, make_agent, benchmark):
    agent = make_agent(make_agent_stub(ttft_s=0, itl_s=0, tokens=3))
    assert benchmark(agent.ask, "why?").usage.output_tokens == 3
"""


@pytest.fixture
def run_pytest(tmp_path):
    def run(code, *arguments, **variables):
        (tmp_path / "test_it.py").write_text(code)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "DATABRICKS_", "AGENTBRICKS_"))
        }
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_agent_is_the_stub_unless_asked_otherwise(run_pytest):
    run = run_pytest(AGENT_TEST)
    assert run.returncode == 0, run.stdout
    assert (
        "agent: stub, 20 tokens, the first after 20 ms, then every 5 ms (--agent=stub)"
    ) in run.stdout


def test_endpoint_that_is_not_configured_ends_the_session_before_any_work(run_pytest):
    run = run_pytest(AGENT_TEST, "--agent=endpoint", DATABRICKS_MODEL="ka-1-endpoint")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout
    assert "set DATABRICKS_TOKEN, DATABRICKS_BASE_URL (" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr


def test_endpoint_of_the_settings_is_asked_and_named(run_pytest):
    run = run_pytest(
        AGENT_TEST,
        "--agent=endpoint",
        DATABRICKS_TOKEN="canary-token",
        DATABRICKS_BASE_URL="http://127.0.0.1:1/serving-endpoints",
        DATABRICKS_MODEL="ka-1-endpoint",
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stderr
    assert "agent: endpoint ka-1-endpoint at 127.0.0.1" in run.stdout
    assert "AgentConnectionError: no connection to http://127.0.0.1:1" in run.stdout
    assert "canary-token" not in run.stdout + run.stderr


TARGET_TEST = """
def test_it(make_agent_target):
    target = make_agent_target({"ttft_s": 0.0, "tokens": 3}, max_retries=1)
    print("model", target.agent.model, "stub", target.stub is not None)
    answer = target.agent.ask("why?")
    assert target.stub is None or answer.usage.output_tokens == 3
"""


def test_target_is_a_stub_of_the_plan(run_pytest):
    run = run_pytest(TARGET_TEST, "-s")
    assert run.returncode == 0, run.stdout
    assert "model ka-00000000-endpoint stub True" in run.stdout


def test_target_is_the_endpoint_that_is_chosen(run_pytest):
    run = run_pytest(
        TARGET_TEST,
        "-s",
        "--agent=endpoint",
        DATABRICKS_TOKEN="canary-token",
        DATABRICKS_BASE_URL="http://127.0.0.1:1/serving-endpoints",
        DATABRICKS_MODEL="ka-1-endpoint",
    )
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stderr
    assert "agent: endpoint ka-1-endpoint at 127.0.0.1" in run.stdout
    assert "model ka-1-endpoint stub False" in run.stdout
    assert "AgentConnectionError: no connection to http://127.0.0.1:1" in run.stdout
    assert "canary-token" not in run.stdout + run.stderr


def test_tests_without_an_agent_neither_mention_nor_need_one(run_pytest):
    run = run_pytest("def test_it(): pass", "--agent=endpoint")
    assert run.returncode == 0, run.stdout
    assert "agent:" not in run.stdout


def test_record_says_whom_was_asked_and_what_was_proved(run_pytest, tmp_path):
    report = tmp_path / "report.json"
    run = run_pytest(BENCHMARK, f"--benchmark-json={report}")
    assert run.returncode == 0, run.stdout
    records = {
        record["name"]: record["extra_info"]["lakegauge"]
        for record in json.loads(report.read_text())["benchmarks"]
    }
    asked = records["test_ttft"]["facts"]
    made = records["test_made"]["facts"]
    assert (asked["agent"], asked["agent_tokens"], asked["agent_ttft_ms"]) == (
        "stub",
        20,
        20.0,
    )
    assert (made["agent"], made["agent_tokens"], made["agent_ttft_ms"]) == (
        "stub",
        3,
        0,
    )
    assert asked["agent_scheduling"] in {"realtime", "raised", "ordinary"}
    details = records["test_ttft"]["details"]
    assert details["tokens_count"] == 160
    assert details["stub_lateness_ms_p99"] > 0
    assert details["client_added_ms_p50"] > 0
