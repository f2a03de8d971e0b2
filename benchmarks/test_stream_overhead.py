"""What does measuring a stream cost it? CPU per million rows, with and without.

Both runs are in the same process, one after the other, in turn: what the machine does
meanwhile hits both alike. "Without" is plain pyspark: the same query, started and
awaited; its CPU time is read once before and once after.
"""

from __future__ import annotations

import statistics

import psutil
import pytest

from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.stream_record import MILLION, measured


@pytest.mark.needs("cpu")
@pytest.mark.benchmark(group="stream-overhead")
def test_measuring_costs_next_to_nothing(lab, sized, record_durations):
    """The value is CPU per million rows of the bare runs; A/A in the details."""
    rows_count = sized(full=1_500_000, smoke=40_000)
    feed = Feed(dataset=SensorReadings(), seed=671, rows_count=rows_count)
    batches = sized(full=6, smoke=2)
    query = Query(
        name="windows", feeds=(feed,), transform=counts, batches_count=batches
    )
    jvm = psutil.Process(lab.jvm_pid)

    def bare():
        place = lab.place()
        before = cpu_s(jvm)
        query.start(place).awaitTermination()
        return (cpu_s(jvm) - before) / rows_count * MILLION

    def with_harness():
        before = cpu_s(jvm) + own_cpu_s()
        run = lab.run(query)
        used_s = cpu_s(jvm) + own_cpu_s() - before
        measured(run, warmup_count=0)
        return used_s / rows_count * MILLION

    bare()  # compiles
    pairs = []
    for number in range(sized(full=5, smoke=1)):
        first, second = (bare, with_harness) if number % 2 else (with_harness, bare)
        results = {first: first(), second: second()}
        pairs.append((results[bare], results[with_harness]))
    overhead = statistics.median(b / a for a, b in pairs) - 1
    bares = [a for a, _ in pairs]
    record_durations(
        bares,
        measure="cpu_per_million_rows",
        wall_s=sum(bares),
        completed=rows_count * len(bares),
        details={
            "overhead_share": round(overhead, 4),
            "a_a_spread_share": round((max(bares) - min(bares)) / min(bares), 4),
            "pairs": [[round(a, 3), round(b, 3)] for a, b in pairs],
        },
    )


def counts(_place, frame):
    from pyspark.sql import functions as f

    return (
        frame.withWatermark("event_time", "5 seconds")
        .groupBy("device_id", f.window("event_time", "10 seconds"))
        .count()
        .select("device_id", f.col("window.start").alias("starts_at"), "count")
    )


def own_cpu_s():
    times = psutil.Process().cpu_times()
    return times.user + times.system


def cpu_s(process):
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total
