"""Spark jobs that should not be: of no stream, or bringing its rows to the driver.

Every job of a streaming query carries its query's run id as the group. A job without
a group, while nothing but streams is at work, was started by a callback, and all
streams of the session waited for it. Only where the JVM is this process's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import SparkError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A task answers with its metrics, some kB, where its rows stay on the executors.
TASK_RESULT_MAX_BYTES = 65_536


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


def check_nothing_collected(
    spark: SparkSession,
    run_id: str,
    *,
    task_result_max_bytes: int = TASK_RESULT_MAX_BYTES,
) -> None:
    """Check that no job of a stream brought its rows to the driver.

    What is collected must fit there, however large the next micro-batch is. The
    rows of a broadcast come by the driver as well, and count.

    Args:
        spark: The session, its JVM this process's.
        run_id: Of the streaming query, which has ended.
        task_result_max_bytes: Most that a task of its jobs may answer on average.

    Raises:
        AssertionError: If one did; it says how much.
        SparkError: If Spark no longer knows.
    """
    context = spark.sparkContext
    java = context._jsc.sc()  # noqa: SLF001 - results are in no public interface
    # What is known of a stage comes by a queue.
    java.listenerBus().waitUntilEmpty()
    tracker, store = context.statusTracker(), java.statusStore()
    for job in tracker.getJobIdsForGroup(run_id):
        found = tracker.getJobInfo(job)
        if found is not None and not found.stageIds:
            continue  # a job over no partitions
        # The last one answers the driver. Those before it may have been skipped, and
        # are what Spark forgets first.
        stage = max(found.stageIds) if found else None
        if stage is None or tracker.getStageInfo(stage) is None:
            msg = (
                f"Spark has forgotten job {job} of run {run_id}: check sooner, or have "
                "it keep more (spark.ui.retainedJobs, spark.ui.retainedStages)"
            )
            raise SparkError(msg)
        about = store.lastStageAttempt(stage)
        tasks_count = max(1, about.numCompleteTasks())
        each_bytes = about.resultSize() // tasks_count
        if each_bytes > task_result_max_bytes:
            msg = (
                f"each of {tasks_count} tasks of job {job} brought {each_bytes} "
                f"bytes to the driver, more than {task_result_max_bytes}: "
                "micro-batches must not be collected"
            )
            raise AssertionError(msg)
