"""Does load notice that database tokens end every two seconds?"""

from __future__ import annotations

import pytest

from harness.load import constant_arrivals, run_open_loop
from harness.postgres.workloads import Ledger

# The shortest life the service grants, 300 s, in two seconds.
TOKEN_S, TIME_SCALE = 2.0, 150
SIZE = 8
RATE_PER_S = 100
# Short, so that there is a login in every part of a token's life.
LIFETIME_S = 0.8


@pytest.mark.benchmark(group="lakebase-token-rotation")
@pytest.mark.parametrize(
    "refresh", ["background", "on-demand"], ids="refresh={}".format
)
def test_insert_while_tokens_rotate(
    refresh, make_lakebase_standin, make_standin_pool, sized, record_load
):
    """No operation fails, and no login is refused, while tokens last two seconds."""
    duration_s = sized(full=30.0, smoke=2.5)
    standin = make_lakebase_standin(time_scale=TIME_SCALE)
    pool = make_standin_pool(
        standin,
        size_min=SIZE,
        size_max=SIZE,
        lifetime_max_s=LIFETIME_S,
        lakebase__token_ttl_s=300,
        pool__enable_background_refresh=refresh == "background",
    )
    ledger = Ledger(pool)
    standin.clear_journal()

    result = run_open_loop(
        ledger,
        constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
        workers=2 * SIZE,
    )

    audit = ledger.confirm()
    logins = standin.journal("login")
    tokens = {login["token"] for login in logins}
    mints = standin.requests("credentials")
    record_load(
        result,
        details={
            **audit.details(),
            "logins_count": len(logins),
            "logins_refused_count": sum(e["sqlstate"] != "00000" for e in logins),
            "tokens_used_count": len(tokens),
            "mints_count": len(mints),
            "connect_ms_p50": round(pool.metrics().connect_time.quantile(0.5) / 1e6, 2),
        },
    )
    assert result.failed == result.unfinished == result.dropped == 0
    assert audit.retried == 0
    assert [login for login in logins if login["sqlstate"] != "00000"] == []
    # Or nothing was rotated: every token of the run was used, and replaced in time.
    assert len(tokens) >= duration_s / TOKEN_S
    assert len(mints) <= duration_s / TOKEN_S * 2 + 1
    assert len(logins) > SIZE * duration_s / LIFETIME_S / 3
