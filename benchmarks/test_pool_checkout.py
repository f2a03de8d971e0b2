"""What does it cost to take a connection from a pool and give it back?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="pool-checkout-idle")
@pytest.mark.parametrize("kind", ["psycopg", "queue"], ids="pool={}".format)
def test_checkout_from_idle_pool(benchmark, make_pool, kind):
    """One caller, connections free: the floor under every other checkout number."""
    pool = make_pool(kind=kind, size_min=4, size_max=4)

    @benchmark
    def checkout():
        with pool.checkout():
            pass

    assert pool.stats().in_use == 0
