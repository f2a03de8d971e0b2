"""How many files of a table a query really opened, from its executed plan.

Only where the JVM is ours: over Spark Connect there is no plan to walk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import SparkError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True, kw_only=True, slots=True)
class FileScan:
    """One scan of a table.

    Attributes:
        files_read: Files opened.
        files_static: Files left by what was known before the query ran; None where
            nothing more was learnt while it ran.
        bytes_read: Their size.
        rows_read: Rows that came out of them.
    """

    files_read: int
    files_static: int | None
    bytes_read: int
    rows_read: int


def run_and_look(frame: DataFrame) -> tuple[list[Any], list[FileScan]]:
    """Collect a frame; return its rows and its scans, in the order of the plan.

    Raises:
        SparkError: If the session has no JVM of its own.
    """
    java_frame = getattr(frame, "_jdf", None)
    if java_frame is None:
        msg = "the executed plan is in a JVM of another: Spark Connect does not give it"
        raise SparkError(msg)
    rows = frame.collect()
    scans: list[FileScan] = []
    _walk(java_frame.queryExecution().executedPlan(), scans)
    return rows, scans


def _walk(node: Any, scans: list[FileScan]) -> None:
    kind = node.getClass().getSimpleName()
    if kind == "AdaptiveSparkPlanExec":
        _walk(node.executedPlan(), scans)
        return
    if kind.endswith("QueryStageExec"):
        _walk(node.plan(), scans)
        return
    if kind == "FileSourceScanExec":
        scans.append(_scan(node.metrics()))
    children = node.children()
    for index in range(children.size()):
        _walk(children.apply(index), scans)


def _scan(metrics: Any) -> FileScan:
    def value(name: str) -> int | None:
        found = metrics.get(name)
        return int(found.get().value()) if found.isDefined() else None

    return FileScan(
        files_read=value("numFiles") or 0,
        files_static=value("staticFilesNum"),
        bytes_read=value("filesSize") or 0,
        rows_read=value("numOutputRows") or 0,
    )
