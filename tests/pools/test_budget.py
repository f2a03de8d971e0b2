"""A pool that its server could never fill is refused, with the size that fits."""

from __future__ import annotations

import logging

import pytest

from harness.errors import ConfigError
from harness.lakebase.computes import ComputeSize
from harness.lakebase.target import start_lakebase
from harness.postgres.opening import check_budget
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.settings import load_settings


def test_pool_larger_than_its_server_is_refused_with_the_size_that_fits(make):
    with pytest.raises(ConfigError, match=r"use at most \d+ per process"):
        make(size_min=1, size_max=300, processes=2)


def test_budget_counts_every_process_and_what_is_reserved():
    config = PoolConfig(size_min=0, size_max=25, processes=4)
    check_budget(config, max_connections=103, reserved=3)
    with pytest.raises(ConfigError, match=r"4 x 25 .* use at most 24 per process"):
        check_budget(config, max_connections=102, reserved=3)


def test_more_processes_than_connections_is_said_in_processes():
    config = PoolConfig(size_min=0, size_max=1, processes=9)
    with pytest.raises(ConfigError, match=r"use at most 7 processes \(DB_PROCESSES\)"):
        check_budget(config, max_connections=10, reserved=3)


def test_lower_limit_of_server_and_compute_counts_and_the_size_that_fits_is_named():
    config = PoolConfig(size_min=0, size_max=25, processes=4)
    small = ComputeSize(0.5)
    check_budget(config, max_connections=400, reserved=4, compute=small)
    with pytest.raises(ConfigError, match=r"0\.5 CU take 104") as caught:
        check_budget(config, max_connections=400, reserved=5, compute=small)
    assert "or a larger compute: 1 CU take 209" in str(caught.value)
    assert "at most 24 per process" in str(caught.value)


def test_no_larger_compute_is_named_where_there_is_none():
    config = PoolConfig(size_min=0, size_max=4001)
    with pytest.raises(ConfigError) as caught:
        check_budget(config, max_connections=9999, reserved=0, compute=ComputeSize(24))
    assert "larger" not in str(caught.value)


def test_connections_of_others_are_told_and_do_not_refuse(make, server_as, caplog):
    """They may be gone in a minute; a limit stays."""
    limit = server_as().info.max_connections - 10
    other = PsycopgPool(
        server_as(), PoolConfig(size_min=10, size_max=10, application_name="other")
    )
    with other, caplog.at_level(logging.WARNING):
        make(size_min=1, size_max=limit)
    said = [r.getMessage() for r in caplog.records if "free now" in r.getMessage()]
    assert len(said) == 1
    others = int(said[0].split(" in use by others")[0].rsplit(" ", 1)[1])
    assert others >= 10


def test_size_of_the_compute_comes_from_the_workspace(
    make_lakebase_standin, tmp_path, monkeypatch
):
    """Its Postgres says 209 for one unit; half of that is asked for twice."""
    standin = make_lakebase_standin(cu=1)
    for name in ("PGHOSTADDR", "PGSSLROOTCERT"):
        monkeypatch.setenv(name, standin.environment()[name])
    settings = load_settings(environ=standin.environment(), cwd=tmp_path)
    server = start_lakebase(settings)
    try:
        assert server.compute == ComputeSize(1)
        with pytest.raises(ConfigError, match=r"larger compute: 2 CU take 419"):
            PsycopgPool(server, PoolConfig(size_min=1, size_max=105, processes=2))
    finally:
        server.close()
