"""What measuring a stream costs it: CPU per million rows, with the harness and without.

    python -m harness.spark.overhead

"Without" is plain pyspark: the same query, started and awaited. "With" is what a
scenario does while it is timed: the meter, the listener and the metrics of its
micro-batches. What it makes of them when the stream has ended is as little a part of
that as the proof of the rows. Both are in one session, in the order bare, with, with,
bare: what changes slowly meanwhile falls on both alike. Each begins with the garbage
of the one before it collected, in a JVM that compiles simply: one that goes on to
compile better for minutes tells no two runs of the same thing to be the same.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.spark.autoscaling.sessions import (
    own_lab,
    print_as_json,
    run_elsewhere,
)
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Lab, Place, Query, Run
from harness.spark.observing.listener import StreamObserver
from harness.spark.stream_record import MILLION, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame

ROWS_COUNT = 1_000_000
QUADS_COUNT = 14
WARMUP_COUNT = 10
_BATCHES_COUNT = 4
_SEED = 671


@dataclass(frozen=True, kw_only=True, slots=True)
class OverheadRun:
    """Pairs of runs with and without the harness: measured.

    Attributes:
        warmup: CPU seconds per million rows of the runs that do not count.
        quads: The same of those that do: bare, with, with, bare.
        wall_s: Of all of them, in seconds.
        rows_count: Rows of a run.
    """

    warmup: tuple[float, ...]
    quads: tuple[tuple[float, ...], ...]
    wall_s: float
    rows_count: int


def measure_overhead(
    *,
    rows_count: int = ROWS_COUNT,
    quads_count: int = QUADS_COUNT,
    warmup_count: int = WARMUP_COUNT,
    clock: Clock = SYSTEM_CLOCK,
) -> OverheadRun:
    """Run a windowed count again and again, with the harness and without.

    Args:
        rows_count: Rows of a run, in four micro-batches.
        quads_count: How often bare, with, with, bare.
        warmup_count: Runs before them.
        clock: Measures how long it takes.

    Raises:
        SparkError: If the session does not start, or a stream fails.
    """
    feed = Feed(dataset=SensorReadings(), seed=_SEED, rows_count=rows_count)
    query = Query(
        name="windows", feeds=(feed,), transform=_counts, batches_count=_BATCHES_COUNT
    )
    with own_lab(master="local[*]", quick=True) as lab:
        cpu = _Cpu(lab.jvm_pid)

        def bare(place: Place) -> None:
            query.start(place).awaitTermination()

        def with_harness(place: Place) -> Run:
            observer = StreamObserver()
            lab.spark.streams.addListener(observer)
            try:
                return lab.run(query, place=place)
            finally:
                lab.spark.streams.removeListener(observer)

        def per_million_rows(run: Callable[[Place], Run | None]) -> float:
            place = lab.place()
            _collect_garbage(lab)
            before_s = cpu.used_s()
            done = run(place)
            used_s = cpu.used_s() - before_s
            if done is not None:
                measured(done)  # it must be possible; it is not part of the run
            return used_s / rows_count * MILLION

        turns = itertools.cycle((bare, with_harness))
        warmup = [per_million_rows(next(turns)) for _ in range(warmup_count)]
        begun_ns = clock.monotonic_ns()
        quads = [
            tuple(map(per_million_rows, (bare, with_harness, with_harness, bare)))
            for _ in range(quads_count)
        ]
        wall_s = (clock.monotonic_ns() - begun_ns) / NS_PER_S
    return OverheadRun(
        warmup=tuple(warmup), quads=tuple(quads), wall_s=wall_s, rows_count=rows_count
    )


def overhead_elsewhere(**sizes: int) -> OverheadRun:
    """Measure it in a process of its own, for one that has a session already.

    Args:
        sizes: `rows_count`, `quads_count` and `warmup_count` of `measure_overhead`.

    Raises:
        SparkError: If it fails there; with what it said.
    """
    given = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    found = run_elsewhere(__spec__.name, *given)
    return OverheadRun(
        warmup=tuple(found["warmup"]),
        quads=tuple(map(tuple, found["quads"])),
        wall_s=found["wall_s"],
        rows_count=found["rows_count"],
    )


def _counts(_place: Place, frame: DataFrame) -> DataFrame:
    from pyspark.sql import functions as f

    return (
        frame.withWatermark("event_time", "5 seconds")
        .groupBy("device_id", f.window("event_time", "10 seconds"))
        .count()
        .select("device_id", f.col("window.start").alias("starts_at"), "count")
    )


def _collect_garbage(lab: Lab) -> None:
    gc.collect()
    jvm: Any = lab.spark.sparkContext._jvm  # noqa: SLF001 - no other way
    jvm.java.lang.System.gc()


class _Cpu:
    """CPU time of the JVM, its Python workers and this process, in seconds."""

    def __init__(self, jvm_pid: int | None) -> None:
        self._jvm = psutil.Process(jvm_pid)
        self._here = psutil.Process()

    def used_s(self) -> float:
        """Return it; who forked a worker that ended has its time."""
        used_s = 0.0
        for each in (self._here, self._jvm, *self._jvm.children(recursive=True)):
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used_s += times.user + times.system
            if each != self._here:
                used_s += times.children_user + times.children_system
        return used_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure it, and print it as JSON."""
    parser = argparse.ArgumentParser(prog="overhead", description=__doc__)
    parser.add_argument("--rows-count", type=int, default=ROWS_COUNT)
    parser.add_argument("--quads-count", type=int, default=QUADS_COUNT)
    parser.add_argument("--warmup-count", type=int, default=WARMUP_COUNT)
    asked = parser.parse_args(arguments)
    return print_as_json(partial(measure_overhead, **vars(asked)))


if __name__ == "__main__":
    sys.exit(main())
