"""What the settings say of a pool is what the pool is opened with."""

from __future__ import annotations

import pytest

from harness.lakebase.pools import pool_config
from harness.postgres.pool import BELOW_S
from harness.settings import load_settings
from harness.settings.pool import IDLE_LIMIT_S, LIFETIME_LIMIT_S


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("DB_POOL_RECYCLE_INTERVAL", 1234.0, "lifetime_max_s"),
        ("DB_IDLE_MAX_S", 77.0, "idle_max_s"),
        ("DB_LIVENESS_IDLE_S", 0.0, "liveness_idle_s"),
        ("DB_LEAK_AFTER_S", 2.5, "leak_after_s"),
        ("DB_CONNECT_CONCURRENCY", 3, "connect_concurrency"),
        ("DB_PROCESSES", 4, "processes"),
    ],
)
def test_setting_reaches_the_pool(variable, value, field, tmp_path):
    plain = pool_config(load_settings(environ={}, cwd=tmp_path))
    told = pool_config(load_settings(environ={variable: str(value)}, cwd=tmp_path))
    assert getattr(plain, field) != value
    assert getattr(told, field) == value


def test_settings_and_pools_know_the_same_limits():
    """Else a value that the settings accept would be refused by the pool."""
    assert BELOW_S["lifetime_max_s"][0] == LIFETIME_LIMIT_S
    assert BELOW_S["idle_max_s"][0] == IDLE_LIMIT_S
