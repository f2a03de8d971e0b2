"""What does measuring a stream cost it? CPU per million rows, with and without.

"Without" is plain pyspark: the same query, started and awaited. "With" is what a
scenario does while it is timed: the meter, the listener and the metrics of its
micro-batches. Both are in one session that is compiled by then, in the order
bare, with, with, bare: what changes slowly meanwhile falls on both alike.
"""

from __future__ import annotations

import itertools
import math
import statistics

import psutil
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.reports.statistics.ratios import paired_evidence
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.observing.listener import StreamObserver
from harness.spark.stream_record import MILLION, measured

OVERHEAD_SHARE_MAX = 0.05
A_A_SHARE_MAX = 0.10
CONFIDENCE = 0.95


@pytest.mark.needs("cpu")
@pytest.mark.benchmark(group="stream-overhead")
def test_measuring_costs_next_to_nothing(lab, sized, record_durations):
    """At most 5 % CPU per million rows; two runs of the same are within 10 %.

    The values are those of the bare runs. Where an interval holds the limit, the
    machine was too noisy to tell: that is no result, neither pass nor fail.
    """
    rows_count = sized(full=1_000_000, smoke=20_000)
    quads_count = sized(full=7, smoke=1)
    feed = Feed(dataset=SensorReadings(), seed=671, rows_count=rows_count)
    query = Query(name="windows", feeds=(feed,), transform=counts, batches_count=4)
    cpu = Cpu(lab.jvm_pid)

    def per_million_rows(run):
        place = lab.place()
        before_s = cpu.used_s()
        run(place)
        return (cpu.used_s() - before_s) / rows_count * MILLION

    def bare(place):
        query.start(place).awaitTermination()

    def with_harness(place):
        observer = StreamObserver()
        lab.spark.streams.addListener(observer)
        try:
            run = lab.run(query, place=place)
        finally:
            lab.spark.streams.removeListener(observer)
        measured(run, warmup_count=0)

    warm = [
        per_million_rows(run)
        for run in itertools.islice(
            itertools.cycle((bare, with_harness)), sized(full=6, smoke=1)
        )
    ]
    begun_ns = SYSTEM_CLOCK.monotonic_ns()
    quads = [
        [per_million_rows(run) for run in (bare, with_harness, with_harness, bare)]
        for _ in range(quads_count)
    ]
    wall_s = (SYSTEM_CLOCK.monotonic_ns() - begun_ns) / NS_PER_S

    bares = [value for first, _, _, last in quads for value in (first, last)]
    details = {
        "rows_count": rows_count,
        "warmup_cpu_s_per_million_rows": [round(value, 3) for value in warm],
        "cpu_s_per_million_rows": [[round(v, 3) for v in quad] for quad in quads],
        "bare_spread_share": round(
            statistics.pstdev(bares) / statistics.fmean(bares), 4
        ),
    }
    doubts, failures = [], []
    if quads_count > 1:
        overhead = share_between(
            [(first + last) / 2 for first, _, _, last in quads],
            [(first + last) / 2 for _, first, last, _ in quads],
        )
        a_a = share_between(
            [first for first, _, _, _ in quads], [last for _, _, _, last in quads]
        )
        details |= {
            "overhead_share": rounded(overhead),
            "a_a_difference_share": rounded(a_a),
        }
        low, _, high = overhead
        judge("overhead", low, high, OVERHEAD_SHARE_MAX, doubts, failures)
        # How far apart two runs of the same are, whichever is the larger.
        low, _, high = a_a
        nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        farthest = max(abs(low), abs(high))
        judge("A/A spread", nearest, farthest, A_A_SHARE_MAX, doubts, failures)
    record_durations(
        bares,
        measure="cpu_per_million_rows",
        wall_s=wall_s,
        completed=rows_count * len(bares),
        details=details,
        invalid="; ".join(doubts) or None,
    )
    assert not failures, f"{'; '.join(failures)}: {details}"


def share_between(baseline, contender):
    """Return how much more the contender is: low, estimate, high, each a share."""
    evidence = paired_evidence(baseline, contender)
    low, high = evidence.interval(CONFIDENCE)
    return tuple(math.expm1(v) for v in (low, evidence.estimate, high))


def judge(what, low, high, limit, doubts, failures):
    said = f"{what} is {low:.1%} to {high:.1%}, the limit {limit:.0%}"
    if low > limit:
        failures.append(said)
    elif high > limit:
        doubts.append(f"inconclusive: {said}")


def rounded(shares):
    names = ("low", "estimate", "high")
    return {name: round(v, 4) for name, v in zip(names, shares, strict=True)}


def counts(_place, frame):
    from pyspark.sql import functions as f

    return (
        frame.withWatermark("event_time", "5 seconds")
        .groupBy("device_id", f.window("event_time", "10 seconds"))
        .count()
        .select("device_id", f.col("window.start").alias("starts_at"), "count")
    )


class Cpu:
    """CPU time of the JVM, its Python workers and this process, in seconds."""

    def __init__(self, jvm_pid):
        self._jvm = psutil.Process(jvm_pid)
        self._here = psutil.Process()
        self._ended_s = 0.0
        self._workers = {}

    def used_s(self):
        """Return it; of a worker that was forked and ended, what was last seen."""
        workers = {}
        for each in self._jvm.children(recursive=True):
            try:
                times, by_jvm = each.cpu_times(), each.ppid() == self._jvm.pid
            except psutil.NoSuchProcess:
                continue
            workers[each.pid] = times.user + times.system, by_jvm
        for pid in self._workers.keys() - workers.keys():
            seconds, by_jvm = self._workers[pid]
            # The JVM waits for its own children, and has their time from then on.
            self._ended_s += 0.0 if by_jvm else seconds
        self._workers = workers
        here, jvm = self._here.cpu_times(), self._jvm.cpu_times()
        own_s = here.user + here.system + jvm.user + jvm.system
        ended_s = self._ended_s + jvm.children_user + jvm.children_system
        return own_s + ended_s + sum(seconds for seconds, _ in workers.values())
