"""The stub, asked by the SDKs themselves: their own parsing accepts what it says."""

from __future__ import annotations

import logging
import warnings

import pytest

from harness.agents.auth import SdkLogin
from harness.agents.client import AgentClient
from harness.agents.stub.faults import Fault
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub

openai = pytest.importorskip("openai", reason="needs openai (extra: contenders)")

TEXT = "A pool holds as many connections as café guests — A "


@pytest.fixture(scope="module")
def stub():
    plan = StubPlan(ttft_s=0.0, itl_s=0.0, tokens=10, block_tokens=4, created=True)
    with AgentStub(plan) as stub:
        yield stub


@pytest.fixture
def sdk(stub):
    with openai.OpenAI(
        api_key=stub.token.get_secret_value(), base_url=stub.base_url, max_retries=0
    ) as client:
        yield client


@pytest.fixture
def workspace(stub):
    """A databricks-sdk config of the stub's service principal."""
    host = stub.base_url.removesuffix("/serving-endpoints")
    secret = stub.client_secret.get_secret_value()
    return {
        "host": host,
        "client_id": stub.plan.client_id,
        "client_secret": secret,
        "auth_type": "oauth-m2m",
    }


def test_openai_reads_a_whole_answer(sdk, stub):
    answer = sdk.responses.create(model=stub.model, input="why?")
    assert answer.output_text == TEXT
    assert answer.usage.output_tokens == 10
    (item,) = answer.output
    assert [len(block.annotations) for block in item.content] == [1, 1, 1]
    assert item.content[0].annotations[0].title == "guide-0.pdf"


def test_openai_reads_a_stream(sdk, stub):
    events = list(sdk.responses.create(model=stub.model, input="why?", stream=True))
    kinds = [event.type for event in events]
    assert "".join(e.delta for e in events if e.type.endswith("text.delta")) == TEXT
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert events[-1].response.output_text == TEXT


def test_openai_reads_chat_whole_and_streamed(sdk, stub):
    ask = {"model": stub.model, "messages": [{"role": "user", "content": "why?"}]}
    whole = sdk.chat.completions.create(**ask)
    assert whole.choices[0].message.content == TEXT
    assert whole.usage.completion_tokens == 10
    pieces = [
        choice.delta.content or ""
        for chunk in sdk.chat.completions.create(**ask, stream=True)
        for choice in chunk.choices
    ]
    assert "".join(pieces) == TEXT


def test_openai_raises_its_own_errors(stub):
    with openai.OpenAI(api_key="wrong", base_url=stub.base_url) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            client.responses.create(model=stub.model, input="why?")
        assert raised.value.body["error_code"] == "UNAUTHENTICATED"


def test_openai_waits_as_the_stub_asks():
    busy = Fault(kind="status", status=429, requests=(1,), retry_after="1")
    with (
        AgentStub(StubPlan(ttft_s=0.0, itl_s=0.0, faults=(busy,))) as stub,
        openai.OpenAI(
            api_key=stub.token.get_secret_value(),
            base_url=stub.base_url,
            max_retries=1,
        ) as client,
    ):
        assert client.responses.create(model=stub.model, input="why?").output_text
        statement = stub.statement()
    (refusal,) = statement.refusals
    waited_s = (statement.entries[0].received_ns - refusal.received_ns) / 1e9
    assert waited_s >= 1.0


def test_databricks_sdk_logs_in_and_asks(workspace, stub):
    sdk = pytest.importorskip("databricks.sdk")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client = sdk.WorkspaceClient(**workspace)
    answer = client.api_client.do(
        "POST",
        f"/serving-endpoints/{stub.model}/invocations",
        body={"input": [{"role": "user", "content": "why?"}]},
    )
    assert "".join(b["text"] for b in answer["output"][0]["content"]) == TEXT
    endpoint = client.serving_endpoints.get(stub.model)
    assert endpoint.task == "agent/v1/responses"
    assert endpoint.state.ready.value == "READY"


def test_client_logs_in_as_a_service_principal(workspace, stub, caplog):
    caplog.set_level(logging.DEBUG)
    stub.reset()
    minted = stub.statement().tokens_minted_count
    with AgentClient(
        base_url=stub.base_url, token=SdkLogin(**workspace), model=stub.model
    ) as client:
        assert client.ask("why?").text == TEXT
        assert client.ask("why?").text == TEXT
        assert stub.statement().tokens_minted_count == minted + 1
        # The token is refused: one more is minted, and the question asked again.
        stub.revoke()
        answer = client.ask("why?")
    assert [attempt.status for attempt in answer.attempts] == [401, 200]
    assert stub.statement().tokens_minted_count == minted + 2
    assert stub.client_secret.get_secret_value() not in caplog.text


def test_wrong_client_secret_is_a_credential_error_without_it(workspace):
    from harness.errors import CredentialError

    secret = "canary-secret-of-nobody"
    with pytest.raises(CredentialError, match="DATABRICKS_CLIENT_SECRET") as raised:
        SdkLogin(**{**workspace, "client_secret": secret}).header()
    assert secret not in str(raised.value)
    assert raised.value.__context__ is None


def test_settings_of_a_service_principal_need_no_token(monkeypatch, tmp_path, stub):
    from harness.settings import load_settings

    for name in ("DATABRICKS_TOKEN", "DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_BASE_URL", stub.base_url)
    monkeypatch.setenv("DATABRICKS_MODEL", stub.model)
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", stub.plan.client_id)
    monkeypatch.setenv(
        "DATABRICKS_CLIENT_SECRET", stub.client_secret.get_secret_value()
    )
    settings = load_settings(cwd=tmp_path, check=False)
    with AgentClient.from_settings(
        settings.agent, databricks=settings.databricks
    ) as client:
        assert client.ask("why?").text == TEXT
