"""Sides that would use one server run one after the other, all others take turns."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.reports.experiments.building import Built
from harness.reports.experiments.interleaving import takes_turns
from harness.reports.experiments.variants import variant_of


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch, tmp_path):
    for name in ("LAKEGAUGE_TARGET", "LAKEGAUGE_POSTGRES_DSN", "LAKEBASE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "texts",
    [
        ("main", ".", ""),
        ("--pool=queue", "--pool=psycopg", "--target=embedded"),
        ("DB_POOL_SIZE=10", "DB_POOL_SIZE=40", "--target docker"),
    ],
)
def test_sides_with_a_server_each_take_turns(texts):
    assert takes_turns("auto", texts, ()) == (True, "")


@pytest.mark.parametrize(
    "texts",
    [
        ("--target=dsn", "--target=embedded", ""),
        ("main", ".", "--target lakebase"),
        ("LAKEGAUGE_TARGET=lakebase", ".", ""),
        ("LAKEGAUGE_POSTGRES_DSN=x", ".", ""),
        ("LAKEGAUGE_ENV_FILE=a.env", "LAKEGAUGE_ENV_FILE=b.env", ""),
    ],
)
def test_sides_that_may_share_a_server_run_one_after_the_other(texts):
    turns, reason = takes_turns("auto", texts, ())
    assert not turns
    assert "one server" in reason
    assert takes_turns("cases", texts, ()) == (True, "")


def test_a_configured_server_is_shared_unless_another_target_is_named(monkeypatch):
    monkeypatch.setenv("LAKEGAUGE_POSTGRES_DSN", "postgresql://u@localhost/d")
    assert takes_turns("auto", (".", ".", ""), ())[0] is False
    assert takes_turns("auto", (".", ".", "--target=embedded"), ())[0] is True


def test_an_environment_whose_lakegauge_knows_no_turns_runs_one_by_one(tmp_path):
    venv.create(tmp_path / "old", with_pip=False)
    python = tmp_path / "old" / "bin" / "python"
    old = Built(variant=variant_of(str(python)), python=python, folder=tmp_path)
    new = Built(
        variant=variant_of(sys.executable),
        python=Path(sys.executable),
        folder=tmp_path,
    )
    turns, reason = takes_turns("auto", (), (old, new))
    assert not turns
    assert "knows no turns" in reason
    assert takes_turns("auto", (), (new, new)) == (True, "")
    with pytest.raises(ConfigError, match="knows no turns"):
        takes_turns("cases", (), (old, new))


def test_a_misspelt_choice_is_refused():
    with pytest.raises(ConfigError, match="must be one of auto, cases, runs"):
        takes_turns("case", (), ())
