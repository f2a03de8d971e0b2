"""Does anybody meet a connection that Lakebase has ended for idling?"""

from __future__ import annotations

import pytest

from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

SIZE = 6
# The 24 hours of the service.
IDLE_S = 1.5
TIME_SCALE = 86_400 / IDLE_S
# One caller at a time: the top of the stack is used, what lies below it idles.
RATE_PER_S = 5


@pytest.mark.benchmark(group="lakebase-idle-kill")
@pytest.mark.parametrize(
    ("idle_max_s", "is_killed"),
    [(0.25 * IDLE_S, False), (3600.0, True)],
    ids=["first=pool", "first=server"],
)
def test_insert_beside_idle_connections(
    idle_max_s, is_killed, make_lakebase_standin, make_standin_pool, sized, record_load
):
    """`first=pool`: the pool replaces them in time, and the server ends none.

    `first=server`: it lets the server do it, notices at the next checkout, and no
    caller does.
    """
    duration_s = sized(full=15.0, smoke=2.5)
    # The life of 72 hours must not end them first.
    standin = make_lakebase_standin(time_scale=TIME_SCALE, lifetime_s=1e9)
    standin.set_token_life(60.0)
    pool = make_standin_pool(
        standin, size_min=SIZE, size_max=SIZE, idle_max_s=idle_max_s
    )
    ledger = Ledger(pool)
    standin.clear_journal()

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        # All of them now and then, so that dead ones are met.
        workers=SIZE,
    )
    everybody = [pool.checkout() for _ in range(SIZE)]
    answers = [one.__enter__().execute("SELECT 1").fetchone() for one in everybody]
    for one in everybody:
        one.__exit__(None, None, None)

    audit = ledger.confirm()
    kills = standin.journal("kill")
    record_load(
        result,
        details={
            **audit.details(),
            "kills_count": len(kills),
            "connections_replaced_count": pool.metrics().closed_count,
        },
    )
    assert result.failed == result.unfinished == audit.retried == 0
    assert answers == [(1,)] * SIZE
    assert bool(kills) == is_killed
    assert {kill["reason"] for kill in kills} <= {"idle"}
    assert pool.metrics().closed_count >= SIZE - 1
    assert pool.stats().size == SIZE
