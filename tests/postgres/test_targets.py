"""Which target is taken, and the reason that the header gives for it."""

from __future__ import annotations

import pytest

from harness.errors import TargetError
from harness.postgres.targets import resolve, start

DSN = "postgresql://u:p@127.0.0.1:1/db"


@pytest.fixture(autouse=True)
def no_engine(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


def test_target_that_was_named_is_taken(make_settings):
    choice = resolve(make_settings({"--target": "embedded"}, LAKEBASE_ENDPOINT="e"))
    assert (choice.target, choice.reason) == ("embedded", "named by --target")


def test_target_named_by_the_environment_says_so(make_settings):
    choice = resolve(make_settings(LAKEGAUGE_TARGET="embedded"))
    assert choice.reason == "named by LAKEGAUGE_TARGET"


def test_auto_takes_a_connection_string_before_a_workspace(make_settings):
    choice = resolve(
        make_settings(LAKEGAUGE_POSTGRES_DSN=DSN, LAKEBASE_INSTANCE_NAME="i")
    )
    assert choice.target == "dsn"
    assert choice.reason == "LAKEGAUGE_POSTGRES_DSN is set"


@pytest.mark.parametrize("name", ["LAKEBASE_ENDPOINT", "LAKEBASE_INSTANCE_NAME"])
def test_auto_takes_a_workspace_before_this_machine(make_settings, name):
    choice = resolve(make_settings(**{name: "x"}))
    assert (choice.target, choice.reason) == ("lakebase", f"{name} is set")


def test_variables_meant_for_other_programs_choose_nothing(make_settings):
    """PGHOST alone may point at anything; a benchmark writes tables there."""
    assert resolve(make_settings(PGHOST="db.example.com")).target == "embedded"


def test_auto_takes_embedded_last_and_says_what_it_looked_for(make_settings):
    choice = resolve(make_settings())
    assert choice.target == "embedded"
    assert choice.reason.startswith("no DSN or workspace configured, no engine answers")


def test_auto_does_not_pass_over_a_connection_string_that_fails(make_settings):
    """Another server than the one that was configured would be measured."""
    with pytest.raises(TargetError, match="LAKEGAUGE_POSTGRES_DSN"):
        start(make_settings(LAKEGAUGE_POSTGRES_DSN=DSN))


def test_lakebase_is_started_by_the_layer_above(make_settings, embedded):
    asked = []

    def lakebase(settings):
        asked.append(settings.target.target)
        return embedded

    server, warning = start(make_settings(LAKEBASE_ENDPOINT="e"), lakebase=lakebase)
    assert server is embedded
    assert warning is None
    assert asked == ["lakebase"]


def test_lakebase_that_nobody_starts_is_an_error(make_settings):
    with pytest.raises(TargetError, match="databricks-sdk"):
        start(make_settings(LAKEBASE_ENDPOINT="e"))
