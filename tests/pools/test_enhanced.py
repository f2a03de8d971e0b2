"""The pool under the method names and status keys that older code knows."""

from __future__ import annotations

import json

import pytest

from harness.errors import CheckoutTimeoutError, ConfigError, TargetError
from harness.lakebase.enhanced import EnhancedPool, create_enhanced_pool
from harness.lakebase.service import LakebaseService
from harness.settings import load_settings


@pytest.fixture
def enhanced(postgres, tmp_path):
    """Return a function: the pool of a service over the embedded server."""
    pools = []

    def enhanced(**environ):
        environ = {"DB_POOL_SIZE": "1", "DB_MAX_OVERFLOW": "1", **environ}
        settings = load_settings(environ=environ, cwd=tmp_path)
        pools.append(EnhancedPool(LakebaseService(settings, server=postgres)))
        return pools[-1]

    yield enhanced
    for pool in pools:
        pool.close_all()


def test_original_methods_and_status_keys(enhanced):
    with enhanced() as pool:
        first, second = pool.get_connection(), pool.get_connection(timeout=5)
        status = pool.get_pool_status()
        assert (status["pool_size"], status["max_overflow"]) == (1, 1)
        assert (status["active_connections"], status["overflow_connections"]) == (2, 1)
        assert status["utilization_rate"] == 1.0
        assert status["pool_initialized"] is True
        with pytest.raises(CheckoutTimeoutError):
            pool.get_connection(timeout=0)
        pool.return_connection(first)
        pool.return_connection(second)
        with pytest.raises(ConfigError, match="returned already"):
            pool.return_connection(second)
        status = pool.get_pool_status()
        assert status["active_connections"] == 0
        assert status["total_checkouts"] == status["total_checkins"] == 2
        assert status["checkout_timeouts"] == 1
    with pytest.raises(TargetError, match="not started"):
        pool.get_connection()


def test_health_is_known_without_an_event_loop(enhanced):
    """The originals never ran a check for synchronous callers, who got None."""
    with enhanced() as pool:
        report = pool.get_health_status()
        assert report["components"]["database_connection"]["status"] == "healthy"
        assert report["components"]["connection_pool"]["status"] == "healthy"
    with enhanced(ENABLE_HEALTH_CHECKS="false") as pool:
        assert pool.get_health_status() is None


def test_performance_is_this_pools(enhanced):
    with enhanced() as pool, enhanced() as other:
        for _ in range(3):
            pool.return_connection(pool.get_connection())
        seen = pool.get_performance_metrics()["connection_pool"]
        assert seen["total_checkouts"] == 3
        assert seen["average_checkout_time_ms"] > 0
        assert (
            other.get_performance_metrics()["connection_pool"]["total_checkouts"] == 0
        )
    with enhanced(ENABLE_PERFORMANCE_MONITORING="false") as pool:
        assert pool.get_performance_metrics() is None


def test_factory_reads_the_file_it_is_given(postgres, tmp_path, monkeypatch):
    """And the environment goes before it: the originals had it the wrong way round."""
    root = postgres.connect_arguments()
    dsn = " ".join(
        f"{key}={root[key]}" for key in ("host", "port", "user", "password", "dbname")
    )
    file = tmp_path / "mine.json"
    file.write_text(
        json.dumps({"production_pool": {"pool_size": 2, "max_overflow": 3}})
    )
    monkeypatch.setenv("LAKEGAUGE_TARGET", "dsn")
    monkeypatch.setenv("LAKEGAUGE_POSTGRES_DSN", dsn)
    monkeypatch.setenv("DB_MAX_OVERFLOW", "1")
    with create_enhanced_pool(str(file)) as pool:
        status = pool.get_pool_status()
    assert (status["pool_size"], status["max_overflow"]) == (2, 1)
