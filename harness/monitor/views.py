"""What the monitor answers: one pydantic model per kind of response."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.reports.record import Fact, case_block_of

if TYPE_CHECKING:
    from typing import Self

State = Literal["complete", "running", "interrupted"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Alive(_View):
    """The server answers."""

    status: Literal["ok"] = "ok"


class Index(_View):
    """What this server is and where to go on.

    Attributes:
        name: Of the software.
        version: Of the software.
        links: What can be opened now.
        endpoints: Live endpoints; one that has nothing to say answers 503.
    """

    name: str
    version: str
    links: dict[str, str]
    endpoints: dict[str, str] = Field(default_factory=dict)


class Problem(_View):
    """Why a request was refused, in the form FastAPI gives its own."""

    detail: str


def problem_beside_text(status: int) -> dict[int | str, dict[str, Any]]:
    """Return how an endpoint whose answer is no JSON documents a refusal, which is.

    FastAPI would document it under the media type of the answer.
    """
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": "Why it is refused.", "content": content}}


class CaseView(_View):
    """One case of a run.

    Attributes:
        fullname: The node id, which cases are matched by.
        name: Its last part.
        group: What it may be compared with.
        measure: What p50 to p99 are quantiles of.
        p50_s: In seconds, like the others; null if there are too few values.
        p95_s: The 95 % quantile.
        p99_s: The 99 % quantile.
        throughput_per_s: Completed operations per second.
        errors_count: Operations that failed.
        values_count: How many values the quantiles were computed from.
        workers: Concurrent callers of a load run.
        facts: What was measured.
        doubts: Why to hesitate before believing this case.
    """

    # A quantile saved as text would be shown, and then fail where it is compared.
    model_config = ConfigDict(strict=True)

    fullname: str
    name: str
    group: str
    measure: str
    p50_s: float | None = Field(default=None, ge=0)
    p95_s: float | None = Field(default=None, ge=0)
    p99_s: float | None = Field(default=None, ge=0)
    throughput_per_s: float | None = Field(default=None, ge=0)
    errors_count: int = Field(default=0, ge=0)
    values_count: int = Field(ge=0)
    workers: int | None = None
    facts: dict[str, Fact] = Field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Read a record of a report.

        Raises:
            ValidationError: If one of its values is not what it must be.
            ValueError: If it has no block of ours.
        """
        stats, block = record["stats"], case_block_of(record)
        if block is None:
            msg = f"no lakegauge block in {record['fullname']}"
            raise ValueError(msg)
        return cls(
            fullname=record["fullname"],
            name=record["name"],
            group=record.get("group") or "ungrouped",
            measure=block.measure,
            p50_s=stats.get("p50"),
            p95_s=stats.get("p95"),
            p99_s=stats.get("p99"),
            throughput_per_s=stats.get("throughput"),
            errors_count=stats.get("errors", 0),
            values_count=block.values_count,
            workers=block.workers,
            facts=block.facts,
            doubts=tuple(block.doubts),
        )


class ReportSummary(_View):
    """One line of the list of reports.

    Attributes:
        label: Name it by this: its number, or its path where numbers clash.
        path: Below the folder of reports.
        started_at: When the run started, in UTC.
        complete: Whether the run ended and was saved.
        state: "running" while a run that is not complete goes on, "interrupted" if
            it was killed.
        smoke: Whether smoke values were used.
        cases_count: Cases measured so far.
        failed_count: Cases that did not pass, and are not in the report.
    """

    label: str
    path: str
    started_at: datetime
    complete: bool
    state: State
    smoke: bool
    cases_count: int
    failed_count: int


class ReportList(_View):
    """All readable reports, newest first, and a note for each that is not."""

    reports: tuple[ReportSummary, ...]
    notes: tuple[str, ...]


class ReportDetail(ReportSummary):
    """One report: its cases, and those that failed with their outcome."""

    cases: tuple[CaseView, ...]
    failed: dict[str, str]
