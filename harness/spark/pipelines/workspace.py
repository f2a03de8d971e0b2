"""The same pipeline file on a Databricks workspace, through databricks-sdk."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, SparkError
from harness.settings import redact
from harness.spark.pipelines.run import PipelineEvent, PipelineRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service import pipelines as sdk

_POLL_S = 5.0
_UPDATE_TIMEOUT_S = 1800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Autoscaling:
    """Limits of a cluster that the workspace scales with task slots and queue.

    Attributes:
        workers_min: Fewest workers.
        workers_max: Most workers.
    """

    workers_min: int
    workers_max: int

    def __post_init__(self) -> None:
        if not 1 <= self.workers_min <= self.workers_max:
            msg = (
                "1 <= workers_min <= workers_max must hold, got "
                f"{self.workers_min} and {self.workers_max}"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelinePlan:
    """A pipeline to be made.

    Attributes:
        name: As it is called in the workspace.
        files: Paths of its source files in the workspace.
        catalog: Unity Catalog catalog of its datasets.
        schema: Schema of its datasets.
        continuous: Whether an update goes on until it is stopped.
        autoscaling: Enhanced autoscaling within limits; None is serverless.
    """

    name: str
    files: Sequence[str]
    catalog: str
    schema: str
    continuous: bool = False
    autoscaling: Autoscaling | None = None

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError("files: a pipeline needs at least one source file")
        relative = [file for file in self.files if not file.startswith("/")]
        if relative:
            msg = f"files must be absolute paths of the workspace, got {relative}"
            raise ConfigError(msg)


class WorkspacePipeline:
    """A pipeline that is there, run update by update.

    Args:
        client: Who asks.
        pipeline_id: Which pipeline.
        clock: For the waits.
    """

    def __init__(
        self, client: WorkspaceClient, pipeline_id: str, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._pipelines = client.pipelines
        self._clock = clock
        self.pipeline_id = pipeline_id

    @classmethod
    def create(
        cls, client: WorkspaceClient, plan: PipelinePlan, *, clock: Clock = SYSTEM_CLOCK
    ) -> WorkspacePipeline:
        """Make a pipeline; nothing runs yet.

        Raises:
            SparkError: If the workspace answers without an id.
        """
        from databricks.sdk.service import pipelines as sdk

        made = client.pipelines.create(
            name=plan.name,
            catalog=plan.catalog,
            schema=plan.schema,
            channel="CURRENT",
            continuous=plan.continuous,
            libraries=[
                sdk.PipelineLibrary(file=sdk.FileLibrary(path=path))
                for path in plan.files
            ],
            clusters=_clusters(plan.autoscaling) if plan.autoscaling else None,
            serverless=plan.autoscaling is None,
        )
        if not made.pipeline_id:
            msg = f"pipeline {plan.name!r}: the workspace returned no id for it"
            raise SparkError(msg)
        return cls(client, made.pipeline_id, clock=clock)

    def start(self, *, full_refresh: bool = False, dry: bool = False) -> str:
        """Start an update, and return its id.

        Args:
            full_refresh: Whether all datasets are emptied and computed anew.
            dry: Whether to check the graph and run nothing.
        """
        return self._pipelines.start_update(
            self.pipeline_id, full_refresh=full_refresh, validate_only=dry
        ).update_id or self._missing("no id for the update")

    def wait(
        self, update_id: str, *, timeout_s: float = _UPDATE_TIMEOUT_S
    ) -> PipelineRun:
        """Wait until an update is over, and return what it reported.

        Raises:
            SparkError: If it failed, was cancelled, or is not over in time; with its
                state and what it reported last.
        """
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * NS_PER_S)
        while True:
            update = self._pipelines.get_update(self.pipeline_id, update_id).update
            state = update.state.value if update and update.state else "UNKNOWN"
            if state == "COMPLETED":
                return PipelineRun(events=tuple(self.events(update_id)))
            ended = state in {"FAILED", "CANCELED"}
            if ended or self._clock.monotonic_ns() >= deadline_ns:
                what = f"is {state}" if ended else f"is {state} after {timeout_s:g} s"
                raise SparkError(self._failure(update_id, what))
            self._clock.sleep(_POLL_S)

    def events(self, update_id: str | None = None) -> Iterator[PipelineEvent]:
        """Return what was reported, oldest first; of one update, or of all."""
        found = self._pipelines.list_pipeline_events(
            self.pipeline_id, order_by=["timestamp asc"], max_results=250
        )
        for event in found:
            origin = event.origin
            if update_id and origin and origin.update_id not in {None, update_id}:
                continue
            yield _event(event)

    def stop(self) -> None:
        """Stop the update that runs, and wait until it has stopped."""
        self._pipelines.stop_and_wait(self.pipeline_id)

    def delete(self) -> None:
        """Remove the pipeline; on a workspace its tables go with it."""
        self._pipelines.delete(self.pipeline_id)

    def _failure(self, update_id: str, what: str) -> str:
        messages = [event.message for event in self.events(update_id)]
        last = redact(messages[-1]) if messages else "it reported nothing"
        return f"update {update_id} of pipeline {self.pipeline_id} {what}: {last}"

    def _missing(self, what: str) -> str:
        msg = f"pipeline {self.pipeline_id}: the workspace returned {what}"
        raise SparkError(msg)


@contextmanager
def deployed(
    client: WorkspaceClient, plan: PipelinePlan, *, clock: Clock = SYSTEM_CLOCK
) -> Iterator[WorkspacePipeline]:
    """Make a pipeline for the length of a `with` block; stop and delete it then."""
    pipeline = WorkspacePipeline.create(client, plan, clock=clock)
    try:
        yield pipeline
    finally:
        try:
            pipeline.stop()
        finally:
            pipeline.delete()


def _clusters(limits: Autoscaling) -> list[sdk.PipelineCluster]:
    from databricks.sdk.service import pipelines as sdk

    autoscale = sdk.PipelineClusterAutoscale(
        min_workers=limits.workers_min,
        max_workers=limits.workers_max,
        mode=sdk.PipelineClusterAutoscaleMode.ENHANCED,
    )
    return [sdk.PipelineCluster(label="default", autoscale=autoscale)]


def _event(event: sdk.PipelineEvent) -> PipelineEvent:
    origin = event.origin
    message = event.message or event.event_type or ""
    # The state is in the sentence: "Flow 'orders' is RUNNING."
    words = message.rstrip(".").split()
    state = words[-1] if words and words[-1].isupper() else None
    return PipelineEvent(
        at=datetime.fromisoformat(event.timestamp or "1970-01-01T00:00:00Z"),
        message=message,
        flow=origin.flow_name if origin else None,
        state=state,
    )
