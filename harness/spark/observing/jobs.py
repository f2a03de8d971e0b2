"""Spark jobs that belong to no stream: what a listener runs in its callbacks.

Every job of a streaming query carries its query's run id as the group. A job without
a group, while nothing but streams is at work, was started by a callback, and all
streams of the session waited for it. Only where the JVM is this process's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def jobs_beside(spark: SparkSession) -> frozenset[int]:
    """Return the ids of the jobs so far that no group claims."""
    tracker = spark.sparkContext.statusTracker()
    return frozenset(tracker.getJobIdsForGroup(None))


def check_no_jobs_beside(spark: SparkSession, before: frozenset[int]) -> None:
    """Check that only streams ran jobs since *before*.

    Raises:
        AssertionError: If others did; it says how many.
    """
    others = jobs_beside(spark) - before
    if others:
        msg = (
            f"{len(others)} jobs ran beside the streams, {sorted(others)[:5]}: "
            "a listener must not run Spark jobs in its callbacks"
        )
        raise AssertionError(msg)
