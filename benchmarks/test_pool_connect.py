"""What does one new connection cost, with TLS, login and the first query?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="pool-connect")
def test_connect_and_first_query(benchmark, postgres, sized):
    """What a pool saves, and what a caller pays when the pool has to grow."""
    from harness.postgres.connect import connect

    def connect_and_query():
        with connect(postgres.connect_arguments()) as connection:
            return connection.execute("SELECT 1").fetchone()

    answer = benchmark.pedantic(
        connect_and_query,
        rounds=sized(full=200, smoke=20),
        warmup_rounds=sized(full=10, smoke=1),
    )

    assert answer == (1,)
