"""How long is a pool without its server when the primary fails, and what is lost?"""

from __future__ import annotations

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

SIZE = 8
RATE_PER_S = 100
FAILOVER_S = 0.5
BACK_WITHIN_S = 15.0


@pytest.mark.benchmark(group="lakebase-failover")
@pytest.mark.parametrize("kind", ["psycopg", "queue"], ids="pool={}".format)
def test_insert_while_the_primary_fails_over(
    kind, make_lakebase_standin, make_standin_pool, sized, record_load
):
    """All sessions end with 57P01, logins get 57P03 for half a second."""
    duration_s, failovers = sized(full=(20.0, 3), smoke=(2.5, 1))
    standin = make_lakebase_standin(failover_s=FAILOVER_S)
    pool = make_standin_pool(standin, kind=kind, size_min=SIZE, size_max=SIZE)
    ledger = Ledger(pool, settle_every=1)
    pause_s = duration_s / (failovers + 1)
    standin.play(
        [{"at_s": pause_s * (i + 1), "do": "fail_over"} for i in range(failovers)]
    )

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=64,
        drain_s=10.0,
    )

    audit = ledger.confirm()
    ended = sum(entry["ended"] for entry in standin.journal("failover"))
    metrics = pool.metrics()
    record_load(
        result,
        details={
            **audit.details(),
            "failovers_count": failovers,
            "sessions_ended_count": ended,
            "connections_replaced_count": metrics.closed_count,
            "connect_failures_count": metrics.connect_failures_count,
            "outage_ms_max": round(result.outage_s * 1e3, 1),
        },
    )
    assert ended >= failovers * SIZE, "they met the pool's connections"
    assert result.failed == result.unfinished == result.dropped == 0
    # Classified: whatever was tried again was a lost connection, and nothing else.
    assert all("database_connection" in cause for cause in audit.attempts_by_cause)
    # The pool replaced each connection, and each once.
    assert metrics.closed_count == ended
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(BACK_WITHIN_S * 1e9)
    while pool.stats().size < SIZE and SYSTEM_CLOCK.monotonic_ns() < deadline_ns:
        SYSTEM_CLOCK.sleep(0.01)
    assert pool.stats().size == SIZE
