"""What do the pooled host and the replica cost against the direct host?"""

from __future__ import annotations

import psycopg
import pytest

from harness.errors import ConfigError
from harness.load import run_closed_loop
from harness.postgres.seeding import seed_table
from harness.postgres.workloads import PrimaryKeyLookup

SIZE = 4
ROUTES = {
    "direct": {},
    "pooled": {"pooled": True},
    "replica": {"replica": True},
    "replica-pooled": {"replica": True, "pooled": True},
}


@pytest.mark.benchmark(group="lakebase-routes")
@pytest.mark.parametrize("route", ROUTES, ids="route={}".format)
def test_lookup_by_route(
    route, make_lakebase_standin, make_standin_pool, sized, record_load
):
    """Point lookups through the same pool; each host keeps its own rules meanwhile.

    The pooled host takes no token and no prepared statements; the replica refuses
    to write.
    """
    standin = make_lakebase_standin()
    with make_standin_pool(standin, size_max=1).checkout() as owner:
        table = seed_table(
            owner, name="routes", rows=sized(full=10_000, smoke=1000), batch_size=1000
        )
    pool = make_standin_pool(
        standin, size_min=2 * SIZE, size_max=2 * SIZE, **ROUTES[route]
    )
    workload = PrimaryKeyLookup(pool, table)

    result = run_closed_loop(
        workload,
        workers=2 * SIZE,
        duration_s=sized(full=10.0, smoke=0.7),
        warmup_s=sized(full=1.0, smoke=0.1),
        setup=workload.setup,
        teardown=workload.teardown,
    )

    stats = standin.stats()
    side = "replica" if "replica" in route else "primary"
    record_load(
        result,
        details={
            "server_connections_peak": stats[f"{side}_peak"],
            "client_connections": 2 * SIZE,
        },
    )
    assert result.failed == result.unfinished == 0
    # No more servers than clients, and the one that made the table.
    assert stats[f"{side}_peak"] <= 2 * SIZE + 1
    with pool.checkout() as connection:
        if "replica" in route:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("CREATE TABLE written (number int)")
        if "pooled" in route:
            assert connection.prepare_threshold is None
    if "pooled" in route:
        host = standin.host(replica="replica" in route, pooled=True)
        with pytest.raises(ConfigError, match="takes no OAuth token"):
            standin.server(lakebase__host=host)
