"""What happens to connections reaches the log as fields; single operations do not."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from contextlib import suppress

import psycopg
import pytest

from harness.clock import ManualClock
from harness.errors import CheckoutTimeoutError, TargetError
from harness.postgres.pool import PoolConfig
from harness.postgres.pool_log import Teller, tell_opened
from harness.postgres.psycopg_pool import AsyncPsycopgPool
from harness.settings.logs import configure_logging
from harness.settings.monitoring import MonitoringSettings


@pytest.fixture
def make(pool_class, postgres, application_name):
    """Return a factory of pools whose lines are told from those of other tests."""
    pools = []

    def make(server=postgres, **config):
        config = PoolConfig(**{"checkout_timeout_s": 10.0, **config})
        pools.append(pool_class(server, config, name=application_name))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def lines(application_name):
    """Return a function: the JSON lines of this test's pool, of one operation."""
    logger = logging.getLogger("harness")
    before = (logger.level, list(logger.handlers))
    stream = io.StringIO()
    configure_logging(
        MonitoringSettings(log_format="json", log_level="DEBUG"), stream=stream
    )

    def of(operation=None):
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        ours = [o for o in found if repr(application_name) in o["message"]]
        return [o for o in ours if operation in (None, o.get("operation"))]

    yield of
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


def test_a_refused_login_is_a_line_with_its_fields(make, server_as, lines):
    with pytest.raises(TargetError):
        make(server_as(password="canary-wrong"), size_min=1, size_max=1)

    (line,) = lines("pool.connect")
    assert line["level"] == "WARNING"
    assert (line["category"], line["sqlstate"]) == ("authentication", "28P01")
    assert line["attempt"] == line["count"] == 1
    assert line["duration_ms"] > 0
    assert "canary" not in json.dumps(line)


def test_tasks_have_the_same_lines(server_as, postgres, application_name, lines):
    async def refused():
        config = PoolConfig(size_min=1, size_max=1)
        nobody = server_as(user="nobody_here")
        async with AsyncPsycopgPool(nobody, config, name=application_name):
            pass

    async def late():
        config = PoolConfig(size_min=1, size_max=1, checkout_timeout_s=0.01)
        async with (
            AsyncPsycopgPool(postgres, config, name=application_name) as pool,
            pool.checkout(),
            pool.checkout(),
        ):
            pass

    with pytest.raises(TargetError):
        asyncio.run(refused())
    with pytest.raises(CheckoutTimeoutError):
        asyncio.run(late())

    assert {"authentication"} == {
        line["category"] for line in lines("pool.connect") if "category" in line
    }
    (line,) = lines("pool.checkout")
    assert line["category"] == "database_timeout"
    assert line["duration_ms"] >= 10


def test_a_checkout_that_times_out_is_a_line_with_its_fields(make, lines):
    pool = make(size_min=1, size_max=1)
    with pool.checkout():
        for _ in range(20):
            with pytest.raises(CheckoutTimeoutError):
                pool.checkout(0).__enter__()
            with suppress(CheckoutTimeoutError):
                pool.checkout(0.001).__enter__()

    line, *others = lines("pool.checkout")
    assert line["category"] == "database_timeout"
    assert line["duration_ms"] >= 0
    assert (line["in_use"], line["waiting"]) == (1, line["waiting"])
    assert len(others) < 20, "one line speaks for many callers"


def test_a_drain_is_a_line_with_its_reason(make, kill, pid_of, lines):
    pool = make(size_min=3, size_max=3, liveness_idle_s=3600.0)
    with suppress(psycopg.OperationalError), pool.checkout() as connection:
        kill(pid_of(connection))
        connection.execute("SELECT 1")

    (line,) = lines("pool.drain")
    assert (line["sqlstate"], line["category"]) == ("57P01", "database_connection")
    assert line["connections"] == 3


def test_a_leak_is_a_line_with_how_long_it_has_been_out(make, lines):
    pool = make(size_min=1, size_max=1, leak_after_s=0.01)
    with pool.checkout():
        pool._supply.closing.wait(0.02)
        pool.maintain()

    (line,) = lines("pool.leak")
    assert line["duration_ms"] >= 20


def test_a_lost_checkout_is_a_line(make, lines):
    pool = make(size_min=1, size_max=1)
    with suppress(AttributeError):
        pool.checkout().__enter__().close  # noqa: B018 - taken and forgotten
    pool.maintain()

    (line,) = lines("pool.leak")
    assert "taken back" in line["message"]


def test_checkouts_that_go_well_write_nothing_even_at_debug(make, lines):
    pool = make(size_min=2, size_max=2)
    for _ in range(200):
        with pool.checkout() as connection:
            connection.execute("SELECT 1")
    assert [line["operation"] for line in lines()] == ["pool.connect"] * 2


def test_one_line_a_second_speaks_for_all_callers_that_time_out(
    application_name, lines
):
    clock = ManualClock()
    teller = Teller(application_name, clock=clock)
    error = CheckoutTimeoutError(
        pool_name=application_name,
        waited_s=1.0,
        size=1,
        size_max=1,
        in_use=1,
        waiting=7,
    )
    for _ in range(1000):
        teller.timed_out(error)
    clock.advance(1.0)
    teller.timed_out(error)

    assert [line["count"] for line in lines("pool.checkout")] == [1, 1000]


def test_a_wake_is_a_line_with_its_own_time(application_name, lines):
    tell_opened(application_name, took_ns=1_000_000, woke_ns=250_000_000, attempt=2)

    (line,) = lines("pool.wake")
    assert (line["duration_ms"], line["attempt"]) == (250.0, 3)
