"""From a run of streaming queries to the figures of a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import SparkError
from harness.reports.page.streams import TIMELINE
from harness.spark.progress import MS_PER_S, elapsed_s
from harness.spark.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.spark.feed import Feed
    from harness.spark.lab import Run
    from harness.spark.noise import Floats
    from harness.spark.progress import MicroBatch

MILLION = 1e6
_MB = 1e6
# What a laptop has left for it beside everything else.
JVM_RSS_MAX_BYTES = 4_000_000_000


def measured(
    run: Run,
    *,
    warmup_count: int = 1,
    details: Mapping[str, Any] | None = None,
    invalid: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of `record_durations` for a run.

    Args:
        run: What ran.
        warmup_count: Micro-batches of each query that are left out: code is compiled
            in them.
        details: Further figures of the scenario.
        invalid: Why this is no result; None if it is one.

    Raises:
        SparkError: If no micro-batch is left, or the JVM grew beyond its limit.
    """
    _check_jvm(run)
    batches = [
        batch
        for of_query in run.batches.values()
        for batch in of_query[warmup_count:]
        if batch.rows_count
    ]
    if not batches:
        msg = f"no micro-batch is left to measure after {warmup_count} of warm-up"
        raise SparkError(msg)
    batches.sort(key=lambda batch: batch.started_at)
    rows_count = sum(batch.rows_count for batch in batches)
    wall_s = elapsed_s(batches)
    durations_s = [batch.duration_s for batch in batches]
    about = _batch_figures(batches, rows_count=rows_count, wall_s=wall_s)
    values, measure = durations_s, "batch_duration"
    if run.usage is not None:
        values, measure = _cpu_per_million_rows(run, batches), "cpu_per_million_rows"
        start, end = batches[0].started_at, max(b.ended_at for b in batches)
        cpu_s = run.usage.cpu_between_s(start, end)
        about |= {
            "cpu_s_per_million_rows": round(cpu_s / rows_count * MILLION, 3),
            "jvm_rss_peak_mb": round(run.usage.jvm_rss_peak_bytes / _MB),
            "python_peak_mb": round(run.usage.python_peak_bytes / _MB),
        }
    return {
        "durations_s": values,
        "measure": measure,
        "wall_s": wall_s,
        "completed": rows_count,
        "details": about
        | table_figures(run)
        | {TIMELINE: timeline(batches, clock_ahead_s=run.clock_ahead_s)}
        | dict(details or {}),
        "invalid": invalid,
    }


def _check_jvm(run: Run) -> None:
    if run.usage is None or run.usage.jvm_rss_peak_bytes <= JVM_RSS_MAX_BYTES:
        return
    msg = (
        f"the JVM held {run.usage.jvm_rss_peak_bytes / _MB:.0f} MB, more than "
        f"{JVM_RSS_MAX_BYTES / _MB:.0f} MB: give it less heap (LAKEGAUGE_SPARK_DRIVER"
        "_MEMORY), or the scenario fewer rows at a time"
    )
    raise SparkError(msg)


def waits_s(batches: Sequence[MicroBatch], feed: Feed, *, since_ns: int) -> Floats:
    """Return how long each row waited: from when it was due until it was visible.

    Of every row, from the offsets of its micro-batch: nothing is sampled and nothing
    is left out because the stream was late (no coordinated omission).
    """
    since_s = since_ns / 1e9
    parts = []
    for batch in batches:
        for start, end in batch.ranges[:1]:
            due_s = feed.due_s(np.arange(start, end, dtype=np.int64))
            parts.append(batch.visible_at.timestamp() - since_s - due_s)
    return np.concatenate(parts) if parts else np.empty(0)


def wait_figures(waited_s: Floats) -> dict[str, float]:
    """Return the quantiles of end-to-end latency, in milliseconds."""
    p50, p95, p99 = np.quantile(waited_s, [0.5, 0.95, 0.99]) * MS_PER_S
    return {
        "end_to_end_ms_p50": round(float(p50), 1),
        "end_to_end_ms_p95": round(float(p95), 1),
        "end_to_end_ms_p99": round(float(p99), 1),
        "end_to_end_ms_max": round(float(waited_s.max()) * MS_PER_S, 1),
    }


def table_figures(run: Run) -> dict[str, int]:
    """Return what the tables' logs say was written, over the whole run.

    Files removed are those that a MERGE rewrote or an OPTIMIZE joined; rows copied,
    those of them that it had to write again as they were.
    """
    from deltalake import DeltaTable

    totals = dict.fromkeys(
        ("files_written", "bytes_written", "files_removed", "rows_copied"), 0
    )
    for log in sorted(run.place.folder.glob("*/_delta_log")):
        for entry in DeltaTable(log.parent).history():
            metrics = entry.get("operationMetrics", {})
            for total, names in (
                ("files_written", ("numAddedFiles", "numTargetFilesAdded", "numFiles")),
                (
                    "bytes_written",
                    ("numOutputBytes", "numTargetBytesAdded", "numAddedBytes"),
                ),
                ("files_removed", ("numRemovedFiles", "numTargetFilesRemoved")),
                ("rows_copied", ("numTargetRowsCopied", "numCopiedRows")),
            ):
                found = next((metrics[n] for n in names if n in metrics), 0)
                totals[total] += int(found)
    return totals


def _cpu_per_million_rows(run: Run, batches: Sequence[MicroBatch]) -> list[float]:
    """Return CPU seconds per million rows of each micro-batch.

    Queries that run together share the JVM: then the time between two ends of
    micro-batches belongs to the rows that ended with it.
    """
    usage = run.usage
    if usage is None:
        return []
    in_order = sorted(batches, key=lambda batch: batch.ended_at)
    starts = [
        min(batch.started_at for batch in in_order),
        *(batch.ended_at for batch in in_order),
    ]
    return [
        usage.cpu_between_s(start, batch.ended_at) / batch.rows_count * MILLION
        for start, batch in zip(starts, in_order, strict=False)
    ]


def _batch_figures(
    batches: Sequence[MicroBatch], *, rows_count: int, wall_s: float
) -> dict[str, Any]:
    durations_ms = np.array([batch.duration_s for batch in batches]) * MS_PER_S
    split: dict[str, int] = {}
    for batch in batches:
        for part, ms in batch.durations_ms.items():
            split[part] = split.get(part, 0) + ms
    backlogs = [b.backlog_rows for b in batches if b.backlog_rows is not None]
    figures = {
        "rows_count": rows_count,
        "rows_per_s": round(rows_count / wall_s),
        "batches_count": len(batches),
        "batch_duration_ms_p50": round(float(np.quantile(durations_ms, 0.5)), 1),
        "batch_duration_ms_p95": round(float(np.quantile(durations_ms, 0.95)), 1),
        "batch_duration_ms_by_part": {
            part: round(ms / len(batches), 1) for part, ms in sorted(split.items())
        },
        "state_rows_max": max(batch.state_rows for batch in batches),
        "state_bytes_max": max(batch.state_bytes for batch in batches),
        "rows_dropped_by_watermark": sum(b.rows_dropped_by_watermark for b in batches),
    }
    if backlogs:
        figures["backlog_rows_max"] = max(backlogs)
    return figures
