"""What becomes of arrivals, and of memory, at 1.3 times what can be served?

Ten minutes of it: `BENCHMARK_TEST_DURATION_SECONDS=600 pytest
benchmarks/test_postgres_overload.py`. Runs without that are as long as all others.
"""

from __future__ import annotations

import threading

import psutil
import pytest

from harness.load import poisson_arrivals, run_closed_loop, run_open_loop

WORKERS = 4
OVERLOAD = 1.3
SERVICE_S = 0.001
# Shorter than the backlog even after three seconds.
DRAIN_S = 0.1
# So that even the short run goes past it and keeps histograms from then on.
RAW_BUDGET = 1_000
GROWTH_MAX_MB = 16
MB = 1 << 20


class Memory:
    """Resident memory of this process, looked at twice a second by a thread."""

    def __init__(self):
        self.seen_mb = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._over.set()
        self._thread.join()

    def _watch(self):
        process = psutil.Process()
        while not self._over.wait(0.5):
            self.seen_mb.append(process.memory_info().rss / MB)

    def growth_mb(self):
        """Return the most of the second half against the most of the first tenth."""
        tenth, half = len(self.seen_mb) // 10 + 1, len(self.seen_mb) // 2
        return max(self.seen_mb[half:]) - max(self.seen_mb[:tenth])


@pytest.mark.benchmark(group="postgres-overload")
def test_overload_is_accounted_for_in_bounded_memory(
    postgres, seeded_table, settings, sized, record_load
):
    """Each lookup holds its connection for a millisecond more, so callers must wait.

    All workers share one thread, which is idle most of the time: the server is what
    there is too little of.
    """
    from harness.postgres.workloads import Held, PrimaryKeyLookup, Witness

    class SlowLookup(PrimaryKeyLookup):
        def operate(self, session, worker):
            session.execute("SELECT pg_sleep(%s)", (SERVICE_S,))
            super().operate(session, worker)

    workload = SlowLookup(Held(server=postgres), seeded_table, direct=True)
    crew = {
        "workers": WORKERS,
        "interleaved": True,
        "process_setup": workload.process_setup,
        "process_teardown": workload.process_teardown,
        "setup": workload.setup,
        "teardown": workload.teardown,
    }
    capacity = run_closed_loop(
        workload, duration_s=sized(full=3.0, smoke=0.5), warmup_count=20, **crew
    ).throughput_per_s
    duration_s = sized(full=settings.benchmark.test_duration_seconds, smoke=3.0)
    schedule = poisson_arrivals(
        rate_per_s=capacity * OVERLOAD, duration_s=duration_s, seed=1
    )
    witness = Witness(workload)

    with Memory() as memory:
        result = run_open_loop(
            workload, schedule, raw_budget=RAW_BUDGET, drain_s=DRAIN_S, **crew
        )

    witness.confirm(result)
    arrivals = sum(len(chunk) for chunk in schedule.chunks())
    record_load(
        result,
        details={
            "capacity_per_s": round(capacity),
            "arrival_rate_per_s": round(capacity * OVERLOAD),
            "dropped_share": round(result.dropped / result.scheduled, 4),
            "memory_mb_max": round(max(memory.seen_mb), 1),
            "memory_growth_mb": round(memory.growth_mb(), 1),
        },
    )
    assert result.folded is not None
    assert result.unfinished == result.failed == 0
    assert result.completed + result.dropped == arrivals
    assert result.dropped > 0
    assert memory.growth_mb() < GROWTH_MAX_MB
