"""Do the tasks of an event loop notice that tokens end, or that the primary fails?"""

from __future__ import annotations

import itertools
from random import Random

import pytest

from harness.load import constant_arrivals, run_open_loop
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import AsyncPsycopgPool
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.retry_budget import RetryBudget

# The shortest life the service grants, 300 s, in two seconds.
TOKEN_S, TIME_SCALE = 2.0, 150
FAILOVER_S = 0.5
SIZE = 8
RATE_PER_S = 100
# Short, so that there is a login in every part of a token's life.
LIFETIME_S = 0.8


class Inserts:
    """Inserts of unique numbers by tasks, each repeated until it is done once.

    Args:
        server: Where the pool connects.
        config: Sizes and times of the pool.
    """

    def __init__(self, server, config):
        self._server = server
        self._config = config
        self._numbers = itertools.count()
        self.retried = []
        self.size = 0
        self._recovery = Recovery(
            # Longer than an outage; each waits for itself.
            RetryPolicy(retries_max=50, delay_max_s=0.2, deadline_s=30.0),
            budget=RetryBudget(burst=10_000),
            random=Random(1),
        )

    async def open(self):
        """Open the pool in the loop of its callers."""
        self.pool = AsyncPsycopgPool(self._server, self._config, name="tasks")
        await self.pool.open()
        return self.pool

    async def close(self, pool):
        """See that every slot can still be had at once, and close it."""
        everybody = [pool.checkout() for _ in range(SIZE)]
        held = [await one.__aenter__() for one in everybody]
        self.size = len({connection.info.backend_pid for connection in held})
        for one in everybody:
            await one.__aexit__(None, None, None)
        await pool.close()

    async def __call__(self, context):
        """Insert the next number."""
        number = next(self._numbers)

        async def insert():
            async with context.shared.checkout() as connection:
                context.acquired()
                await connection.execute(
                    "INSERT INTO by_tasks VALUES (%s) ON CONFLICT DO NOTHING",
                    [number],
                )

        await self._recovery.call_async(
            insert, name="insert", idempotent=True, attempts=self.retried
        )


@pytest.mark.benchmark(group="lakebase-async-pool")
@pytest.mark.parametrize("event", ["rotation", "failover"], ids="event={}".format)
def test_insert_of_tasks(event, make_lakebase_standin, sized, record_load):
    """Every number is in the table once, and the pool has its size at the end."""
    duration_s = sized(full=20.0, smoke=2.5)
    rotates = event == "rotation"
    standin = make_lakebase_standin(
        **({"time_scale": TIME_SCALE} if rotates else {"failover_s": FAILOVER_S})
    )
    about = {"lakebase__token_ttl_s": 300} if rotates else {}
    config = PoolConfig(
        size_min=SIZE, size_max=SIZE, lifetime_max_s=LIFETIME_S if rotates else 3600.0
    )
    server = standin.server(**about)
    with connect(server.connect_arguments()) as connection:
        connection.execute("CREATE TABLE by_tasks (number bigint PRIMARY KEY)")
    inserts = Inserts(server, config)
    standin.clear_journal()
    if not rotates:
        standin.play([{"at_s": duration_s / 2, "do": "fail_over"}])

    result = run_open_loop(
        inserts,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=64,
        process_setup=inserts.open,
        process_teardown=inserts.close,
        drain_s=10.0,
    )

    with connect(server.connect_arguments()) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM by_tasks").fetchone()
    server.close()
    logins = standin.journal("login")
    ended = sum(entry["ended"] for entry in standin.journal("failover"))
    record_load(
        result,
        details={
            "rows_count": rows,
            "retried_count": len(inserts.retried),
            "logins_count": len(logins),
            "tokens_used_count": len({login["token"] for login in logins}),
            "sessions_ended_count": ended,
        },
    )
    assert result.failed == result.unfinished == result.dropped == 0
    assert rows == result.completed, "each number once: it is the table's key"
    assert inserts.size == SIZE
    if rotates:
        assert inserts.retried == []
        assert {login["sqlstate"] for login in logins} == {"00000"}
        # Or nothing was rotated.
        assert len({login["token"] for login in logins}) >= duration_s / TOKEN_S
    else:
        assert ended >= SIZE, "it met the pool's connections"
        assert {str(a.category) for a in inserts.retried} <= {"database_connection"}
