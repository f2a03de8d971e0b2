"""Who may ask the monitor, and who may not."""

from __future__ import annotations

import pytest
import websockets
from pydantic import SecretStr

from harness.errors import ConfigError
from harness.monitor.app import make_app
from harness.monitor.live_api import subject_of

PATIENCE_S = 30

TOKEN = "a-token-that-nobody-guesses"


def test_a_page_of_another_origin_may_neither_ask_nor_watch(server):
    foreign = {"Origin": "http://evil.example"}

    assert server.json("/test/connection", method="POST", **foreign)[0] == 403
    assert server.json("/health", Sec_Fetch_Site="cross-site")[0] == 403
    with pytest.raises(websockets.InvalidStatus) as refused:
        server.watch(additional_headers=foreign)
    assert refused.value.response.status_code == 403
    with server.watch(additional_headers={"Origin": f"http://{server.base}"}) as client:
        assert client.recv(PATIENCE_S)


def test_a_name_that_is_not_this_machine_gets_nothing(server):
    assert server.json("/health", Host="evil.example")[0] == 421
    with pytest.raises(websockets.InvalidStatus):
        server.watch(additional_headers={"Host": "evil.example"})


@pytest.fixture
def guarded(run, service):
    return run(
        make_app(subject=subject_of(service, allow_query=False), token=SecretStr(TOKEN))
    )


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"X-Lakegauge-Token": "wrong"},
        {"Cookie": "lakegauge_token=wrong"},
        {"Cookie": "lakegauge_token"},
    ],
    ids=str,
)
def test_without_the_token_nothing_is_answered(guarded, headers):
    for path in ("/", "/health", "/livez", "/metrics", "/openapi.json", "/config"):
        status, _, text = guarded.ask(path, **headers)
        assert status == 401, path
        assert TOKEN not in text
    with pytest.raises(websockets.InvalidStatus):
        guarded.watch(additional_headers=headers)


def test_with_the_token_everything_is_answered(guarded):
    bearer = {"Authorization": f"Bearer {TOKEN}", "Host": "elsewhere.example"}

    assert guarded.json("/health", **bearer)[0] == 200
    assert guarded.json("/livez", X_Lakegauge_Token=TOKEN)[0] == 200
    with guarded.watch(additional_headers={"Cookie": f"lakegauge_token={TOKEN}"}) as c:
        assert c.recv(PATIENCE_S)


def test_the_dashboard_can_be_opened_with_the_token_in_its_address(guarded):
    status, headers, _ = guarded.ask(f"/dashboard?token={TOKEN}")

    assert (status, headers["location"]) == (303, "/dashboard")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    assert guarded.ask("/dashboard?token=wrong")[0] == 401
    assert guarded.ask(f"/health?token={TOKEN}")[0] == 401


def test_a_token_that_can_be_guessed_is_refused():
    with pytest.raises(ConfigError, match="fewer than 16 characters") as refused:
        make_app(token=SecretStr("guessable"))
    assert "guessable" not in str(refused.value)
