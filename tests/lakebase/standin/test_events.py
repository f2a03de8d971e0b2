"""Events of a compute by timetable, and what reports say of a stand-in."""

from __future__ import annotations

import json

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.lakebase.standin.events import Event, read_events
from harness.lakebase.standin.plan import StandinPlan, plan_facts
from harness.postgres.connect import connect

PATIENCE_S = 20.0


def until(condition):
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(PATIENCE_S * 1e9)
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "it never came true"
        SYSTEM_CLOCK.sleep(0.01)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"at_s": 1, "do": "explode"}], "suspend, fail_over, resize"),
        ([{"at_s": -1, "do": "suspend"}], "at_s of an event must be >= 0"),
        ([{"at_s": 1, "do": "resize"}], "resize needs it"),
        ([{"at_s": 1, "do": "suspend", "cu": 2}], "cu belongs to resize"),
        ([{"do": "suspend"}], "needs at_s and do"),
        ([{"at_s": 1, "do": "suspend", "latency_s": 1}], "may have cu"),
        ([{"at_s": 2, "do": "suspend"}, {"at_s": 1, "do": "suspend"}], "in the order"),
    ],
)
def test_wrong_event_is_refused_with_what_would_be_right(rows, words):
    with pytest.raises(ConfigError, match=words):
        read_events(rows)


def test_events_happen_in_order_and_at_their_time(make_lakebase_standin):
    standin = make_lakebase_standin(failover_s=0, wake_s=0)
    connect(standin.server().connect_arguments()).close()
    standin.clear_journal()

    standin.play(
        [
            {"at_s": 0.1, "do": "fail_over"},
            Event(at_s=0.3, do="resize", cu=4),
            Event(at_s=0.5, do="suspend"),
        ]
    )
    until(lambda: not standin.stats()["playing"])

    done = standin.journal("failover", "resize", "suspend")
    assert [entry["kind"] for entry in done] == ["failover", "resize", "suspend"]
    first, second, third = (entry["at_s"] for entry in done)
    assert second - first > 0.1
    assert third - second > 0.1
    assert standin.stats()["cu"] == 4
    assert standin.stats()["state"] == "SUSPENDED"


def test_tokens_of_a_server_on_a_standin_end_as_the_settings_ask(
    make_lakebase_standin,
):
    standin = make_lakebase_standin(time_scale=150)
    server = standin.server(
        lakebase__token_ttl_s=300, pool__enable_background_refresh=False
    )
    status = server.credential_status()

    assert (status.expires_at - status.minted_at).total_seconds() < 2.5
    assert standin.requests("credentials")
    assert server.is_standin


@pytest.mark.parametrize(
    ("where", "read_only"), [({"replica": True}, "on"), ({"pooled": True}, "off")]
)
def test_server_leads_to_every_host_of_a_standin(
    make_lakebase_standin, where, read_only
):
    server = make_lakebase_standin().server(**where)
    with connect(server.connect_arguments()) as connection:
        row = connection.execute("SHOW transaction_read_only").fetchone()
    assert row == (read_only,)


def test_uptime_counts_from_the_last_wake(make_lakebase_standin):
    standin = make_lakebase_standin(wake_s=0)
    server = standin.server()
    ask = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"

    def uptime_s():
        with connect(server.connect_arguments()) as connection:
            return float(connection.execute(ask).fetchone()[0])

    SYSTEM_CLOCK.sleep(0.2)
    before_ns = SYSTEM_CLOCK.monotonic_ns()
    long_s = uptime_s()
    standin.suspend()
    short_s = uptime_s()
    assert short_s < (SYSTEM_CLOCK.monotonic_ns() - before_ns) / 1e9 < long_s


def test_facts_of_a_plan_hold_no_secret_and_no_name():
    first, second = StandinPlan(cu=2), StandinPlan(cu=2)
    facts = plan_facts(first)

    assert facts == plan_facts(second), "or two runs would never be compared"
    assert facts != plan_facts(StandinPlan(cu=4))
    assert facts["standin_cu"] == 2
    assert facts["standin_suspend_after_s"] == "none"
    for secret in (first.token, first.client_secret, first.native_password, first.user):
        assert secret not in json.dumps(facts)


def test_record_says_that_a_standin_was_measured(make_lakebase_standin, request):
    make_lakebase_standin(cu=2)
    told = {}
    for part in request.config.hook.pytest_lakegauge_facts(item=request.node):
        told |= part or {}
    assert told["postgres_target"] == "lakebase-standin"
    assert told["standin_cu"] == 2
    assert told["standin_postgres_version"].split(".")[0].isdigit()
