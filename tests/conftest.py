"""Tests run on an embedded Postgres: a unit test never waits for a container image."""

from __future__ import annotations


def pytest_configure(config):
    if config.option.target is None:
        config.option.target = "embedded"
