"""Spark's dynamic allocation, really run: executors come with work, and go when idle.

    python -m harness.spark.autoscaling.allocation

Executors are processes of this machine (`local-cluster`). Open-source Spark counts
tasks that wait, and idle time; it knows nothing of a stream's backlog. So a stream
whose micro-batches have more tasks than there are slots makes it grow. When executors
came and went is read from Spark's own event log.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, SparkError
from harness.spark.archive import archive_options
from harness.spark.autoscaling.measured import totals
from harness.spark.autoscaling.sessions import (
    own_lab,
    print_as_json,
    run_elsewhere,
)
from harness.spark.java import find_java
from harness.spark.proof import check_rows, oracle, rows_of
from harness.spark.quick import BRIEF_JAVA_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.spark.lab import Lab

EXECUTORS_MAX = 3
ROWS_COUNT = 120_000
IDLE_S = 3
_MEMORY_MB = 512
_TASKS = 6
_ROUNDS_MAX = 6
# What a stream does once its code is compiled takes longer each time.
_GROWTH = 2
_IDLE_TIMEOUT_S = 120.0
_POLL_DELAY_S = 0.2
_MS_PER_S = 1000
_CHANGES = {"SparkListenerExecutorAdded": 1, "SparkListenerExecutorRemoved": -1}
TOTALS = """
    SELECT device_id, count(*) AS readings, max(event_time) AS last_at
    FROM readings GROUP BY device_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorChange:
    """An executor came or went, by Spark's own account.

    Attributes:
        at_s: When, in seconds since 1970.
        executors: How many there were then.
        reason: Why it went, in Spark's words; "" if it came.
    """

    at_s: float
    executors: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocationRun:
    """A run under dynamic allocation: measured.

    Attributes:
        changes: Executors over time.
        batches: Start and end of each micro-batch, in seconds since 1970, and rows.
        executors_min: What Spark was told to keep.
        executors_max: What it was allowed.
    """

    changes: tuple[ExecutorChange, ...]
    batches: tuple[tuple[float, float, int], ...]
    executors_min: int
    executors_max: int

    @property
    def peak(self) -> int:
        """Most executors at one time."""
        return max((change.executors for change in self.changes), default=0)

    @property
    def executor_s(self) -> float:
        """Executor-seconds from the first executor to the last change."""
        pairs = zip(self.changes, self.changes[1:], strict=False)
        return sum((b.at_s - a.at_s) * a.executors for a, b in pairs)

    def figures(self) -> dict[str, Any]:
        """Return what a record says of it; the course in seconds since its start."""
        start_s = self.changes[0].at_s
        return {
            "executors_peak": self.peak,
            "executors_at_the_end": self.changes[-1].executors,
            "executor_s": round(self.executor_s, 1),
            "executors_course": [
                [round(change.at_s - start_s, 1), change.executors]
                for change in self.changes
            ],
        }


def executor_changes(events: Iterable[str]) -> tuple[ExecutorChange, ...]:
    """Read the lines of Spark's event log: executors over time.

    The last line of a log that is still being written may be cut off: it is left out.
    """
    changes: list[ExecutorChange] = []
    count = 0
    for line in events:
        if not line.endswith("\n"):
            break
        event = json.loads(line)
        step = _CHANGES.get(event["Event"])
        if step is not None:
            count += step
            changes.append(
                ExecutorChange(
                    at_s=event["Timestamp"] / _MS_PER_S,
                    executors=count,
                    reason=event.get("Removed Reason", ""),
                )
            )
    return tuple(changes)


def run_allocation(
    *,
    executors_max: int = EXECUTORS_MAX,
    rows_count: int = ROWS_COUNT,
    clock: Clock = SYSTEM_CLOCK,
) -> AllocationRun:
    """Run a stream under dynamic allocation, until it has grown and shrunk again.

    It goes on, with micro-batches that grow, until a second executor is there; then
    it is idle until all but one are gone. What it wrote is proved against an oracle.

    Args:
        executors_max: Most executors, of one slot and half a gigabyte each.
        rows_count: Rows of the first micro-batch; each is made by six tasks.
        clock: Says when waiting for Spark is given up.

    Raises:
        ConfigError: If there is no room to grow.
        SparkError: If Spark does not grow or shrink; with what it did.
        AssertionError: If a total is wrong.
    """
    if executors_max < 2 or rows_count < _TASKS:  # noqa: PLR2004 - one, and one more
        msg = (
            f"executors_max must be >= 2 and rows_count >= {_TASKS}, got "
            f"{executors_max} and {rows_count}"
        )
        raise ConfigError(msg)
    with (
        tempfile.TemporaryDirectory(prefix="lakegauge-events-") as events,
        own_lab(
            master=f"local-cluster[{executors_max},1,{_MEMORY_MB}]",
            quick=True,
            extra_conf=_conf(Path(events), executors_max),
        ) as lab,
    ):
        (log,) = Path(events).iterdir()
        batches = _grow(lab, log, rows_count)
        changes = _shrunk(log, clock)
    return AllocationRun(
        changes=changes,
        batches=batches,
        executors_min=1,
        executors_max=executors_max,
    )


def _grow(lab: Lab, log: Path, rows_count: int) -> tuple[tuple[float, float, int], ...]:
    """Run micro-batch after micro-batch until a second executor has come."""
    place = lab.place()
    batches: list[tuple[float, float, int]] = []
    so_far = 0
    for number in range(_ROUNDS_MAX):
        so_far += rows_count * _GROWTH**number
        # The same stream, later: it goes on from its checkpoint, in one micro-batch.
        query = totals(
            rows_count=so_far, batches_count=1, partitions=_TASKS, into="table"
        )
        run = lab.run(query, place=place, metered=False)
        batches += [
            (b.started_at.timestamp(), b.ended_at.timestamp(), b.rows_count)
            for b in run.all_batches
        ]
        if max((c.executors for c in _read(log)), default=0) > 1:
            expected = oracle(TOTALS, readings=query.feeds[0].table())
            check_rows(rows_of(place.path()), expected)
            return tuple(batches)
    msg = (
        f"dynamic allocation did not grow in {len(batches)} micro-batches of {_TASKS} "
        f"tasks for one slot, up to {batches[-1][2]} rows: {_read(log)}"
    )
    raise SparkError(msg)


def _shrunk(log: Path, clock: Clock) -> tuple[ExecutorChange, ...]:
    """Wait until all executors but one have gone."""
    deadline_ns = clock.monotonic_ns() + int(_IDLE_TIMEOUT_S * NS_PER_S)
    while (changes := _read(log))[-1].executors > 1:
        if clock.monotonic_ns() > deadline_ns:
            msg = (
                f"executors idle for more than {IDLE_S} s are still there after "
                f"{_IDLE_TIMEOUT_S:g} s: {changes}"
            )
            raise SparkError(msg)
        clock.sleep(_POLL_DELAY_S)
    return changes


def _read(log: Path) -> tuple[ExecutorChange, ...]:
    with log.open(encoding="utf-8") as lines:
        return executor_changes(lines)


def _conf(events: Path, executors_max: int) -> dict[str, str]:
    return {
        "spark.executor.memory": f"{_MEMORY_MB}m",
        "spark.executor.cores": "1",
        "spark.executor.extraJavaOptions": " ".join(
            [*archive_options(find_java()), *BRIEF_JAVA_OPTIONS]
        ),
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.timeout": f"{IDLE_S}s",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.initialExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": str(executors_max),
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.executorIdleTimeout": f"{IDLE_S}s",
        # Delta keeps the state of a table in memory: it would hold executors for ever.
        "spark.dynamicAllocation.cachedExecutorIdleTimeout": f"{IDLE_S}s",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
    }


def allocate_elsewhere(**sizes: int) -> AllocationRun:
    """Run it in a process of its own, for one that has a session already.

    Args:
        sizes: `executors_max` and `rows_count` of `run_allocation`.

    Raises:
        SparkError: If it fails there; with what it said.
    """
    given = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items()]
    found = run_elsewhere(__spec__.name, *given)
    return AllocationRun(
        changes=tuple(ExecutorChange(**change) for change in found["changes"]),
        batches=tuple((start, end, rows) for start, end, rows in found["batches"]),
        executors_min=found["executors_min"],
        executors_max=found["executors_max"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and print it as JSON."""
    parser = argparse.ArgumentParser(prog="allocation", description=__doc__)
    parser.add_argument("--executors-max", type=int, default=EXECUTORS_MAX)
    parser.add_argument("--rows-count", type=int, default=ROWS_COUNT)
    asked = parser.parse_args(arguments)
    return print_as_json(partial(run_allocation, **vars(asked)))


if __name__ == "__main__":
    sys.exit(main())
