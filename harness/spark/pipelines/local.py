"""A pipeline file, run by open-source Spark Declarative Pipelines over Connect.

The functions of pyspark used here are those of its own `spark-pipelines` command;
they are not public, which is why they are called in this module only, at the version
the project pins. The command itself would start another Spark for every run.
"""

from __future__ import annotations

import importlib.util
import re
from contextlib import ExitStack
from datetime import UTC
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, SparkError
from harness.settings import redact
from harness.spark.beginnings import settings_meanwhile
from harness.spark.pipelines.dialect import VIOLATED, VIOLATIONS_SUFFIX, spoken
from harness.spark.pipelines.run import PipelineEvent, PipelineRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

# Tables are Delta's by the session's default. Named in the file, `format="delta"`
# works once: the second run would change a property that Delta reserves.
_SQL_CONF = {"spark.sql.sources.default": "delta"}

# All that an event has besides its time is a sentence.
_FLOW = re.compile(r"^Flow '?`?(?P<flow>[^']+?)'? (?:is|has) (?P<state>[A-Z]+)\b")
_RUN = re.compile(r"^Run is (?P<state>[A-Z]+)\b")


def run_pipeline(
    spark: SparkSession,
    files: Sequence[Path],
    *,
    storage: str,
    database: str = "default",
    full_refresh: bool = False,
    dry: bool = False,
    conf: Mapping[str, str] | None = None,
) -> PipelineRun:
    """Run a pipeline once: what is new, or everything, or only check it.

    Args:
        spark: A Spark Connect session; pipelines know no other.
        files: Python files that define datasets with `pyspark.pipelines`.
        storage: Where checkpoints are kept, a URI of the server's; the same at each
            run, or streaming tables take all their input again.
        database: Schema the datasets are made in.
        full_refresh: Whether all datasets are emptied and computed anew.
        dry: Whether to check the graph and run nothing.
        conf: SQL settings of the run.

    Raises:
        ConfigError: If there is no file, or the session is not Spark Connect's.
        SparkError: If the graph is wrong or a flow failed, with the server's reason,
            and, of a flow, also when the run as a whole claims to be completed.
    """
    if not files:
        raise ConfigError("files: a pipeline needs at least one file of definitions")
    if not hasattr(spark, "client"):
        msg = (
            "pipelines run over Spark Connect only: LAKEGAUGE_SPARK_MASTER=connect, "
            "or --spark-remote"
        )
        raise ConfigError(msg)
    from pyspark.errors import PySparkException
    from pyspark.pipelines import spark_connect_pipeline

    events: list[PipelineEvent] = []
    try:
        # What makes the tables is not reached by the run's own settings.
        with settings_meanwhile(spark, _SQL_CONF):
            graph_id = spark_connect_pipeline.create_dataflow_graph(
                spark,
                default_catalog=None,
                default_database=database,
                sql_conf={**_SQL_CONF, **(conf or {})},
            )
            _register(spark, files, graph_id)
            results = spark_connect_pipeline.start_run(
                spark,
                graph_id,
                full_refresh=[],
                full_refresh_all=full_refresh,
                refresh=[],
                dry=dry,
                storage=storage,
            )
            events.extend(_events(results))
    except PySparkException as error:
        raise SparkError(_failure(error, events)) from error
    _check_flows(events)
    return PipelineRun(events=tuple(events))


def violation_counts(spark: SparkSession, table: str) -> dict[str, int]:
    """Return how many rows broke each expectation of a dataset; 0 are left out."""
    from pyspark.sql import functions as f

    rows = spark.read.table(f"{table}{VIOLATIONS_SUFFIX}")
    names = rows.select(f.explode(VIOLATED).alias(VIOLATED))
    counted = names.groupBy(VIOLATED).count().collect()
    return {row[VIOLATED]: row["count"] for row in counted}


def _register(spark: SparkSession, files: Sequence[Path], graph_id: str) -> None:
    """Read the files: what they define is noted by the server."""
    from pyspark import pipelines
    from pyspark.pipelines import graph_element_registry as registry
    from pyspark.pipelines.add_pipeline_analysis_context import (
        add_pipeline_analysis_context,
    )
    from pyspark.pipelines.block_session_mutations import block_session_mutations
    from pyspark.pipelines.spark_connect_graph_element_registry import (
        SparkConnectGraphElementRegistry,
    )

    noted = SparkConnectGraphElementRegistry(spark, graph_id)
    with ExitStack() as stack:
        stack.enter_context(registry.graph_element_registration_context(noted))
        stack.enter_context(
            add_pipeline_analysis_context(
                spark=spark, dataflow_graph_id=graph_id, flow_name=None
            )
        )
        stack.enter_context(block_session_mutations())
        stack.enter_context(spoken(pipelines, spark))
        for file in files:
            found = importlib.util.spec_from_file_location(file.stem, file)
            if found is None or found.loader is None or not file.is_file():
                msg = f"files: {file} is not a Python file that can be read"
                raise ConfigError(msg)
            module = importlib.util.module_from_spec(found)
            # As on a workspace, a file has its session without asking for it.
            module.__dict__["spark"] = spark
            found.loader.exec_module(module)


def _failure(error: Exception, events: Sequence[PipelineEvent]) -> str:
    """Return what failed: Spark's error often points at the events before it."""
    said = str(error).partition("JVM stacktrace:")[0].strip()
    failed = [event.message for event in events if "fail" in event.message.lower()]
    return redact("\n".join(["the pipeline failed: " + said, *failed]))


def _events(results: Iterable[Any]) -> Iterable[PipelineEvent]:
    for result in results:
        told = result.get("pipeline_event_result")
        if told is None:
            continue
        message = told.event.message
        flow, run = _FLOW.match(message), _RUN.match(message)
        yield PipelineEvent(
            at=told.event.timestamp.ToDatetime().replace(tzinfo=UTC),
            message=message,
            flow=flow["flow"] if flow else None,
            state=flow["state"] if flow else run["state"] if run else None,
        )


def _check_flows(events: Sequence[PipelineEvent]) -> None:
    """Fail where a flow did, though the run says it is completed.

    A flow that fails is started again by Spark; on a table that two flows write and
    that is not Delta's, the second try passes and half of the rows are lost.
    """
    failed = [event for event in events if event.flow and event.state == "FAILED"]
    if failed:
        msg = f"a flow of the pipeline failed: {redact(failed[0].message)}"
        raise SparkError(msg)
