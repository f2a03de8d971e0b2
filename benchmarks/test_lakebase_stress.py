"""Does a pool of the largest presets hold with three callers per connection?"""

from __future__ import annotations

import pytest

from harness.load import run_closed_loop
from harness.load.fairness import jain_index
from harness.postgres.workloads import Ledger
from harness.settings.pool import PRESETS

JAIN_MIN = 0.8


@pytest.mark.benchmark(group="lakebase-stress")
@pytest.mark.parametrize("preset", ["heavy", "stress"], ids="preset={}".format)
def test_insert_at_preset(
    preset, make_lakebase_standin, make_standin_pool, sized, record_load
):
    """As many threads as the preset's largest number, on its pool with overflow.

    heavy: 300 threads on 50 to 150 connections; stress: 1000 on 100 to 300.
    """
    if preset == "stress" and sized(full=False, smoke=True):
        pytest.skip("the stress preset is left out of a smoke run")
    size, overflow, threads = PRESETS[preset]
    standin = make_lakebase_standin(cu=2)
    pool = make_standin_pool(
        standin, size_min=size, size_max=size + overflow, checkout_timeout_s=30.0
    )
    ledger = Ledger(pool)

    result = run_closed_loop(
        ledger,
        workers=max(threads),
        duration_s=sized(full=15.0, smoke=1.5),
        grace_s=60.0,
    )

    audit, stats = ledger.confirm(), pool.stats()
    jain = float(jain_index(result.operations_by_worker))
    peak = standin.stats()["primary_peak"]
    record_load(
        result,
        details={
            **audit.details(),
            "connections_peak": peak,
            "pool_size_max": size + overflow,
            "jain_index": round(jain, 3),
        },
    )
    assert result.failed == result.unfinished == 0
    assert pool.metrics().checkout_timeouts_count == 0
    assert peak <= size + overflow, "the cap was never passed"
    assert size <= stats.size <= size + overflow
    assert stats.in_use == stats.waiting == 0
    if result.completed >= 20 * max(threads):
        assert jain >= JAIN_MIN
