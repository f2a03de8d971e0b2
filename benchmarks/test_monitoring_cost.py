"""What does it cost a checkout that somebody watches the pool?

Monitoring is switched on and off in turn, many times in one run, and each time on is
compared with the time off just before it: what else the machine does hits both.
"""

from __future__ import annotations

import statistics

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.lakebase.monitoring.performance import PerformanceMonitor
from harness.lakebase.service import LakebaseService

# On against off, of the time a checkout and its return take.
RATIO_MAX = 1.10
BATCH = 500
# A hundred times as often as the defaults of 60 and 300 s.
FASTER = 100


@pytest.mark.benchmark(group="monitoring-cost")
def test_checkout_watched_against_unwatched(
    make_pool, postgres, settings, sized, record_durations
):
    """Metrics collected and health examined, both a hundred times as often as usual."""
    pool = make_pool(size_min=4, size_max=4)
    watching = settings.model_copy(
        update={
            "monitoring": settings.monitoring.model_copy(
                update={"metrics_collection_interval": 60 / FASTER}
            ),
            "pool": settings.pool.model_copy(
                update={"health_check_interval": 300 / FASTER}
            ),
        }
    )
    pairs, block_s = sized(full=6, smoke=2), sized(full=3.0, smoke=0.1)
    checkouts_s(pool, block_s / 3)
    off_s, on_s, ratios = [], [], []
    for _ in range(pairs):
        off_s += (unwatched := checkouts_s(pool, block_s))
        with LakebaseService(watching, server=postgres, pool=pool) as service:
            service.health.check_now()
            on_s += (watched := checkouts_s(pool, block_s))
            assert service.performance.summary()["connection_pool"]["total_checkouts"]
        ratios.append(statistics.mean(watched) / statistics.mean(unwatched))

    ratio = statistics.median(ratios)
    record_durations(
        on_s,
        measure="checkout_time",
        wall_s=sum(on_s) * BATCH,
        completed=len(on_s) * BATCH,
        details={
            "on_off_ratio": round(ratio, 3),
            "on_off_ratio_target": RATIO_MAX,
            "on_off_ratios": [round(value, 3) for value in ratios],
            "off_mean_us": round(statistics.mean(off_s) * 1e6, 3),
            "on_mean_us": round(statistics.mean(on_s) * 1e6, 3),
        },
    )
    if len(ratios) > 2:
        assert ratio < RATIO_MAX


@pytest.mark.benchmark(group="monitoring-cost-operation")
def test_record_one_operation_of_an_application(sized, record_durations):
    """What a `with monitor.time_operation(...)` block adds to an operation."""
    monitor = PerformanceMonitor()
    durations_s = []
    for _ in range(sized(full=1000, smoke=100)):
        from_ns = SYSTEM_CLOCK.monotonic_ns()
        for _ in range(BATCH):
            with monitor.time_operation("read"):
                pass
        durations_s.append((SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S / BATCH)

    stats = monitor.operation_stats()["read"]
    assert stats["total_requests"] == len(durations_s) * BATCH
    record_durations(
        durations_s,
        measure="recording_time",
        wall_s=sum(durations_s) * BATCH,
        completed=len(durations_s) * BATCH,
    )


def checkouts_s(pool, block_s):
    """Return the mean time of a checkout and its return, one value a batch."""
    means_s = []
    until_ns = SYSTEM_CLOCK.monotonic_ns() + int(block_s * NS_PER_S)
    while (from_ns := SYSTEM_CLOCK.monotonic_ns()) < until_ns:
        for _ in range(BATCH):
            with pool.checkout():
                pass
        means_s.append((SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S / BATCH)
    return means_s
