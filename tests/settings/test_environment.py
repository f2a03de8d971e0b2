from __future__ import annotations

import os

import pytest

from harness.settings.environment import scrubbed_environment


def test_secrets_are_out_of_the_environment_inside_the_block_only(monkeypatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", "canary-token")
    monkeypatch.setenv("PLAIN", "kept")

    with scrubbed_environment(extra={"ADDED": "yes"}, drop=["PLAIN"]):
        inside = dict(os.environ)

    assert "canary-token" not in inside.values()
    assert "PLAIN" not in inside
    assert inside["ADDED"] == "yes"
    assert os.environ["DATABRICKS_TOKEN"] == "canary-token"
    assert os.environ["PLAIN"] == "kept"
    assert "ADDED" not in os.environ


def test_environment_comes_back_after_a_failure(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "canary")
    before = dict(os.environ)

    def fail():
        with scrubbed_environment():
            os.environ["LEFT_BEHIND"] = "1"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert dict(os.environ) == before
