"""Rows per second of a stream on one core, on two, ...: really run, one by one.

    python -m harness.spark.autoscaling.measured

runs `local[1]`, `local[2]` up to the cores of this machine, each in a JVM of its own
that may use no other cores, and prints what was measured, then what a fitted law says
beyond, then what policies would make of it: three tables, never one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ConfigError, HarnessError, SparkError
from harness.spark.autoscaling.capacity import CapacityCurve
from harness.spark.autoscaling.sessions import own_lab, run_elsewhere
from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Place, Query
from harness.spark.stream_record import MILLION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame

ROWS_PER_BATCH = 200_000
BATCHES_COUNT = 12
WARMUP_COUNT = 5
SEED = 641


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityPoint:
    """What one number of workers got through: measured.

    Attributes:
        workers: Task slots, and cores they could use.
        batch_rows_per_s: Rows per second of each micro-batch after the warm-up.
        cpu_s_per_million_rows: CPU time of the JVM and its workers, warm-up included.
        pinned: Whether the processes were kept to as many cores.
    """

    workers: int
    batch_rows_per_s: tuple[float, ...]
    cpu_s_per_million_rows: float
    pinned: bool

    @property
    def rows_per_s(self) -> float:
        """The median of the micro-batches."""
        return float(np.median(self.batch_rows_per_s))


def cores() -> list[int]:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def measure_capacity(
    workers: Sequence[int],
    *,
    rows_per_batch: int = ROWS_PER_BATCH,
    batches_count: int = BATCHES_COUNT,
    quick: bool = False,
) -> list[CapacityPoint]:
    """Run the same stream on each number of workers, in sessions of their own.

    A closed loop: all rows are there, so what is measured is what the workers get
    through. The stream counts and adds up readings per device, and drops the result.

    Args:
        workers: Such as (1, 2); none may be more than this machine has cores.
        rows_per_batch: Rows of one micro-batch.
        batches_count: Micro-batches of a run; the first five are warm-up.
        quick: Whether a short run matters more than a fast engine.

    Raises:
        ConfigError: If there are fewer cores, or too few micro-batches.
        SparkError: If a session does not start, or a stream fails.
    """
    available = cores()
    wrong = [count for count in workers if not 1 <= count <= len(available)]
    if wrong or not workers:
        msg = (
            f"workers must be 1 to {len(available)}, the cores of this machine: what "
            f"is beyond cannot be measured here, got {wrong or list(workers)}"
        )
        raise ConfigError(msg)
    if batches_count <= WARMUP_COUNT or rows_per_batch < 1:
        msg = (
            f"batches_count must be > {WARMUP_COUNT} (the warm-up) and rows_per_batch "
            f">= 1, got {batches_count} and {rows_per_batch}"
        )
        raise ConfigError(msg)
    query = totals(
        rows_count=rows_per_batch * batches_count,
        batches_count=batches_count,
        partitions=max(workers),
    )
    return [_point(query, count, quick=quick) for count in workers]


def totals(
    *, rows_count: int, batches_count: int, partitions: int, into: str = ""
) -> Query:
    """Return a stream that adds up readings per device; work that divides well.

    Args:
        rows_count: Rows in all.
        batches_count: Into how many micro-batches they are cut.
        partitions: Tasks that make the rows of a micro-batch.
        into: Table of the totals; "" drops them.
    """
    return Query(
        name="totals",
        feeds=(Feed(dataset=SensorReadings(), seed=SEED, rows_count=rows_count),),
        transform=_totals,
        output_mode="complete" if into else "update",
        into=into,
        batches_count=batches_count,
        partitions=partitions,
    )


def _totals(_place: Place, readings: DataFrame) -> DataFrame:
    from pyspark.sql import functions as f

    return readings.groupBy("device_id").agg(
        f.count("*").alias("readings"), f.max("event_time").alias("last_at")
    )


def _point(query: Query, workers: int, *, quick: bool) -> CapacityPoint:
    with (
        kept_to(workers) as pinned,
        own_lab(master=f"local[{workers}]", quick=quick) as lab,
    ):
        run = lab.run(query)
    batches = run.batches[query.name][WARMUP_COUNT:]
    if not batches or run.usage is None:
        msg = f"local[{workers}]: no micro-batch after {WARMUP_COUNT} of warm-up"
        raise SparkError(msg)
    rates = tuple(round(b.rows_count / b.duration_s, 1) for b in batches)
    rows_count = query.feeds[0].rows_count
    return CapacityPoint(
        workers=workers,
        batch_rows_per_s=rates,
        cpu_s_per_million_rows=round(run.usage.total_cpu_s / rows_count * MILLION, 3),
        pinned=pinned,
    )


@contextmanager
def kept_to(count: int) -> Iterator[bool]:
    """Keep this process, and those it starts meanwhile, to some of its cores.

    Yields:
        Whether the system can do that; macOS cannot.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield False
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield True
    finally:
        os.sched_setaffinity(0, before)


def measure_elsewhere(
    workers: Sequence[int] | None = None,
    *,
    rows_per_batch: int = ROWS_PER_BATCH,
    batches_count: int = BATCHES_COUNT,
    quick: bool = False,
) -> list[CapacityPoint]:
    """Measure in a process of its own, for one that has a session already.

    Args:
        workers: Default: 1 to the cores of this machine.
        rows_per_batch: See `measure_capacity`.
        batches_count: See `measure_capacity`.
        quick: See `measure_capacity`.

    Raises:
        SparkError: If it fails there; with what it said.
    """
    arguments = ["--rows-per-batch", rows_per_batch, "--batches", batches_count]
    arguments += ["--workers", *workers] if workers else []
    arguments += ["--quick"] if quick else []
    found = run_elsewhere(__spec__.name, *arguments, "--json")
    return [
        CapacityPoint(**point | {"batch_rows_per_s": tuple(point["batch_rows_per_s"])})
        for point in found
    ]


def curve_of(points: Sequence[CapacityPoint]) -> CapacityCurve:
    """Return the curve through measured points; beyond them it says so."""
    return CapacityCurve({point.workers: point.rows_per_s for point in points})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables, or with --json only what was measured."""
    from harness.spark.autoscaling.tables import all_tables

    parser = argparse.ArgumentParser(prog="measured", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", help="default: 1 to cores")
    parser.add_argument("--rows-per-batch", type=int, default=ROWS_PER_BATCH)
    parser.add_argument("--batches", type=int, default=BATCHES_COUNT)
    parser.add_argument("--quick", action="store_true", help="start soon, run slowly")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        points = measure_capacity(
            asked.workers or range(1, len(cores()) + 1),
            rows_per_batch=asked.rows_per_batch,
            batches_count=asked.batches,
            quick=asked.quick,
        )
    except HarnessError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if asked.json:
        found: list[dict[str, Any]] = [asdict(point) for point in points]
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(all_tables(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
