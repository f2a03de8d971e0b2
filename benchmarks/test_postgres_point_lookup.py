"""How fast does a pool serve point lookups to more and more callers?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="postgres-lookup-primary-key")
def test_lookup_by_primary_key(threads, prewarmed_pool, seeded_table, measure_workload):
    """Closed loop: every thread asks for the next row as soon as it has one.

    More threads than connections is a case of interest: the difference between
    response time and service time is then the wait for a connection.
    """
    from harness.postgres.workloads import PrimaryKeyLookup

    workload = PrimaryKeyLookup(prewarmed_pool, seeded_table)

    measure_workload(workload, threads=threads)


@pytest.mark.benchmark(group="postgres-lookup-user")
def test_lookup_by_user(prewarmed_pool, seeded_table, measure_workload, settings):
    """A secondary index with many rows per key, at the first thread count."""
    from harness.postgres.workloads import UserLookup

    workload = UserLookup(prewarmed_pool, seeded_table)

    measure_workload(
        workload, threads=settings.benchmark.thread_counts[0], duration_s=5.0
    )
