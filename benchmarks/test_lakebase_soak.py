"""Is anything lost, done twice or left over when everything goes wrong for long?

BENCHMARK_TEST_DURATION_SECONDS=600 makes it the ten minutes; half a minute is the
default.
"""

from __future__ import annotations

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

SIZE = 8
RATE_PER_S = 100
# The shortest life the service grants a token, 300 s, in two seconds.
TOKEN_S, TIME_SCALE = 2.0, 150
LIFETIME_S = 4.0
WAKES = FAILOVERS = 3
# Connections reset by the network, for each operation.
RESET_SHARE = 0.01
BACK_WITHIN_S = 30.0


@pytest.mark.benchmark(group="lakebase-soak")
def test_every_insert_is_done_once_or_reported(
    settings, make_lakebase_standin, make_fault_proxy, make_standin_pool, sized,
    record_load,
):  # fmt: skip
    """Tokens of 2 s, three wakes, three failovers, a reset for each 100 operations.

    Every number is inserted once or its caller is told; half of the callers ask what
    became of a commit whose answer was lost, the others are told that nobody knows.
    """
    duration_s = sized(full=settings.benchmark.test_duration_seconds, smoke=8.0)
    standin = make_lakebase_standin(time_scale=TIME_SCALE, wake_s=0.3, failover_s=0.3)
    proxy = make_fault_proxy("127.0.0.1", standin.direct_port, seed=1)
    standin.port = proxy.port
    pool = make_standin_pool(
        standin,
        size_min=SIZE,
        size_max=SIZE,
        lifetime_max_s=LIFETIME_S,
        lakebase__token_ttl_s=300,
    )
    ledger = Ledger(pool, settle_every=2)
    standin.clear_journal()
    interruptions = ["suspend", "fail_over"] * WAKES
    pause_s = duration_s / (len(interruptions) + 1)
    resets = int(duration_s * RATE_PER_S * RESET_SHARE)
    standin.play(
        [
            {"at_s": pause_s * (index + 1), "do": do}
            for index, do in enumerate(interruptions)
        ]
    )
    # One connection of the pool, in the mean, each time.
    proxy.play(
        [
            {"at_s": (index + 0.5) * duration_s / resets, "reset": True}
            | {"share": 1 / SIZE}
            for index in range(resets)
        ]
    )

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=64,
        drain_s=30.0,
    )

    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(BACK_WITHIN_S * 1e9)
    while pool.stats().size < SIZE and SYSTEM_CLOCK.monotonic_ns() < deadline_ns:
        SYSTEM_CLOCK.sleep(0.01)
    stats, metrics, audit = pool.stats(), pool.metrics(), ledger.confirm()
    logins = standin.journal("login")
    hit = sum(e["hit"] for e in proxy.ledger()["entries"] if e["kind"] == "fault")
    record_load(
        result,
        details={
            **audit.details(),
            "wakes_count": len(standin.journal("wake")),
            "failovers_count": len(standin.journal("failover")),
            "resets_count": hit,
            "logins_count": len(logins),
            "tokens_used_count": len({e["token"] for e in logins if e.get("token")}),
            "mints_count": len(standin.requests("credentials")),
            "connections_replaced_count": metrics.closed_count,
            "outage_ms_max": round((result.outage_s or 0.0) * 1e3, 1),
        },
    )
    # Everything really went wrong.
    assert len(standin.journal("wake")) == WAKES
    assert len(standin.journal("failover")) == FAILOVERS
    assert 0 < hit < 3 * resets
    assert (
        len({e["token"] for e in logins if e.get("token")}) >= duration_s / TOKEN_S / 2
    )
    # Every operation completed or was reported, none twice: the ledger has confirmed.
    assert audit.offered == result.completed + result.failed
    assert result.failed == audit.unknown + audit.refused
    assert result.unfinished == result.dropped == 0
    assert set(result.errors) <= {"OutcomeUnknownError"}
    # The pool is what it was.
    assert (stats.size, stats.idle, stats.in_use) == (SIZE, SIZE, 0)
    assert stats.waiting == stats.opening == 0
