"""What an application takes without our pool."""

from __future__ import annotations

import asyncio

import psycopg_pool
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from harness.lakebase.adopt import (
    async_engine_kwargs,
    connect_kwargs,
    engine_kwargs,
)
from harness.postgres.pool import PoolConfig


@pytest.fixture
def counted(server_as):
    """A server that counts how often it was asked for arguments."""
    server = server_as()
    given = server.connect_arguments
    server.asked = 0

    def counting():
        server.asked += 1
        return given()

    server.connect_arguments = counting
    return server


def test_psycopg_pool_logs_in_afresh_at_every_connect(counted, application_name):
    kwargs = connect_kwargs(counted, PoolConfig(application_name=application_name))
    with psycopg_pool.ConnectionPool(kwargs=kwargs, min_size=2, open=True) as pool:
        pool.wait()
        with pool.connection() as connection:
            row = connection.execute("SHOW application_name").fetchone()
    assert row[0] == application_name
    assert counted.asked == 2


def test_sqlalchemy_engine_logs_in_afresh_and_keeps_its_transactions(
    counted, application_name
):
    config = PoolConfig(
        size_min=1, size_max=2, application_name=application_name,
        statement_timeout_s=0.05,
    )  # fmt: skip
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", **engine_kwargs(counted, config)
    )
    before = counted.asked
    with engine.connect() as one, engine.connect():
        row = one.execute(sqlalchemy.text("SHOW application_name")).one()
        one.execute(sqlalchemy.text("CREATE TABLE never_committed (id int)"))
        one.rollback()
        found = one.execute(sqlalchemy.text("SELECT to_regclass('never_committed')"))
        assert found.scalar() is None
        with pytest.raises(sqlalchemy.exc.OperationalError, match="statement timeout"):
            one.execute(sqlalchemy.text("SELECT pg_sleep(5)"))
        assert (engine.pool.size(), engine.pool.overflow()) == (1, 1)
    engine.dispose()
    assert row[0] == application_name
    assert counted.asked == before + 2


def test_sqlalchemys_async_engine_does_the_same(counted, application_name):
    config = PoolConfig(size_min=1, size_max=2, application_name=application_name)
    before = counted.asked

    async def main():
        engine = create_async_engine(
            "postgresql+psycopg://", **async_engine_kwargs(counted, config)
        )
        async with engine.connect() as one, engine.connect():
            shown = await one.execute(sqlalchemy.text("SHOW application_name"))
            await one.execute(sqlalchemy.text("CREATE TABLE never_either (id int)"))
            await one.rollback()
            found = await one.execute(
                sqlalchemy.text("SELECT to_regclass('never_either')")
            )
            sizes = (engine.pool.size(), engine.pool.overflow())
            row = (shown.scalar(), found.scalar(), sizes)
        await engine.dispose()
        return row

    assert asyncio.run(main()) == (application_name, None, (1, 1))
    assert counted.asked == before + 2
