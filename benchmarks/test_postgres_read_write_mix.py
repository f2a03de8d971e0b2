"""How fast does a pool serve 80 % lookups and 20 % committed updates?"""

from __future__ import annotations

import pytest


@pytest.mark.benchmark(group="postgres-read-write-mix")
def test_read_write_mix(
    threads, prewarmed_pool, seeded_table, measure_workload, settings
):
    """Closed loop; every update is one transaction, counted in the row it changes.

    Half the configured duration: enough for its p99, and the whole of benchmarks/
    stays under ten minutes.
    """
    from harness.postgres.workloads import ReadWriteMix

    workload = ReadWriteMix(prewarmed_pool, seeded_table)

    half_s = settings.benchmark.test_duration_seconds / 2
    measure_workload(workload, threads=threads, duration_s=half_s)
