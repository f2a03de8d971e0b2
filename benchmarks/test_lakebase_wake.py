"""What do callers wait when the compute has been suspended, and who pays for it?"""

from __future__ import annotations

import pytest

from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

SIZE = 4
RATE_PER_S = 60
WAKE_S = 0.5


@pytest.mark.benchmark(group="lakebase-wake")
def test_insert_while_the_compute_suspends(
    make_lakebase_standin, make_standin_pool, sized, record_load
):
    """Every connection ends with 57P01, the next login waits for the wake.

    The wake has a figure of its own: `wake_ms` is what the logins that met it took,
    `connect_ms_p50` what those did that filled the pool before.
    """
    duration_s, suspensions = sized(full=(20.0, 3), smoke=(3.0, 1))
    standin = make_lakebase_standin(wake_s=WAKE_S)
    pool = make_standin_pool(standin, size_min=SIZE, size_max=SIZE)
    connect_ns = pool.metrics().connect_time.quantile(0.5)
    ledger = Ledger(pool)
    pause_s = duration_s / (suspensions + 1)
    standin.play(
        [{"at_s": pause_s * (i + 1), "do": "suspend"} for i in range(suspensions)]
    )

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=64,
        drain_s=10.0,
    )

    audit = ledger.confirm()
    metrics = pool.metrics()
    wakes = standin.journal("wake")
    # The wake was seen, and is not mixed up with an ordinary connect.
    assert suspensions <= len(metrics.wake_time) <= suspensions * SIZE
    record_load(
        result,
        details={
            **audit.details(),
            "wakes_count": len(wakes),
            "wake_ms": round(metrics.wake_time.quantile(0.5) / 1e6, 1),
            "connect_ms_p50": round(connect_ns / 1e6, 1),
            "outage_ms_max": round(result.outage_s * 1e3, 1),
        },
    )
    assert result.failed == audit.unknown, "nothing fails but answers to a commit"
    assert result.unfinished == result.dropped == 0
    assert len(wakes) == suspensions, "one login wakes it, however many knock"
    assert metrics.wake_time.quantile(0.5) >= max(WAKE_S * 1e9 * 0.95, connect_ns)
    assert pool.stats().size == SIZE
