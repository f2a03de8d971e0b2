"""A comparison as data: what a table, a file or a page of it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

MetricStatus = Literal["regressed", "improved", "equivalent", "inconclusive"]
CaseStatus = Literal[
    "regressed",
    "improved",
    "equivalent",
    "inconclusive",
    "failed",
    "invalid",
    "missing",
    "renamed",
    "new",
    "not comparable",
]

# Worst first: the order of every listing.
CASE_STATUSES: tuple[CaseStatus, ...] = (
    "regressed",
    "failed",
    "missing",
    "renamed",
    "not comparable",
    "invalid",
    "inconclusive",
    "improved",
    "equivalent",
    "new",
)

EXIT_PASSED = 0
EXIT_REGRESSED = 1
EXIT_NOT_COMPARED = 2
EXIT_INCONCLUSIVE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricVerdict:
    """One metric of one case.

    Attributes:
        metric: Its key, such as "p50"; see `harness.reports.verdict.metrics`.
        status: The verdict.
        higher_is_better: Whether more of it is good.
        baseline: Median over the baseline's runs; seconds, per second, or for
            "errors" the share of operations that failed.
        contender: The same of the contender.
        ratio: Contender / baseline (Hodges-Lehmann); None for errors.
        interval: 95 % confidence interval of *ratio*; None with too few runs.
        threshold: Relative change that matters; for errors a share of operations.
        baseline_runs: Runs that had a value.
        contender_runs: The same of the contender.
        paired: Whether the runs were made in pairs.
        method: How the interval was made, in words.
        p_regressed: Holm-adjusted p-value of "not slower than the threshold"; None
            where nothing was tested.
        detectable: Smallest relative change that these runs would have called
            regressed four times in five; None where no noise is known.
        runs_more: Further runs a side that would settle an inconclusive verdict;
            None where it is settled, or where no number of runs below 200 would do.
        reason: Why it is not settled, or what settled it out of the ordinary.
    """

    metric: str
    status: MetricStatus
    higher_is_better: bool
    baseline: float
    contender: float
    ratio: float | None
    interval: tuple[float, float] | None
    threshold: float
    baseline_runs: int
    contender_runs: int
    paired: bool
    method: str
    p_regressed: float | None = None
    detectable: float | None = None
    runs_more: int | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseVerdict:
    """One case.

    Attributes:
        fullname: Its node id.
        name: The name of the test.
        group: Its benchmark group.
        kind: "micro", "closed_loop", "open_loop", "series", or "plain" from a
            report that pytest-benchmark wrote alone.
        measure: What its values are.
        status: "regressed" if any metric is, else the verdict of its first metric;
            or why there is no verdict.
        metrics: The verdict of each metric, the one that decides first.
        reasons: Sentences: the facts that differ, the runs that failed.
        renamed_to: The contender's new case that this one probably became.
    """

    fullname: str
    name: str
    group: str
    kind: str
    measure: str
    status: CaseStatus
    metrics: tuple[MetricVerdict, ...] = ()
    reasons: tuple[str, ...] = ()
    renamed_to: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One process run of a side: where it came from.

    Attributes:
        label: Its number or name.
        path: The report; None for the run in progress.
        started_at: When it started, in UTC; None if it does not say.
        commit: Commit it ran on, or "".
        dirty: Whether there were uncommitted changes.
        environment_doubts: Why the machine was in no state to measure.
    """

    label: str
    path: Path | None
    started_at: datetime | None
    commit: str = ""
    dirty: bool = False
    environment_doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All cases of two sides.

    Attributes:
        baseline: Runs of the baseline, oldest first.
        contender: Runs of the contender, oldest first.
        cases: Worst first, then by name.
        level: Chance of even one false "regressed" of a metric over all its cases,
            were each exactly at its threshold.
        paired: Whether the runs were made in pairs.
        smoke: Whether smoke values were used.
        cut_short: Whether a contender's run was interrupted: then no case is missing.
        notes: Sentences about the whole.
        machine_info: The stable facts of the contender's machine.
    """

    baseline: tuple[RunSummary, ...]
    contender: tuple[RunSummary, ...]
    cases: tuple[CaseVerdict, ...]
    level: float
    paired: bool
    smoke: bool
    cut_short: bool = False
    notes: tuple[str, ...] = ()
    machine_info: Mapping[str, Any] = field(default_factory=dict)

    def with_status(self, *statuses: CaseStatus) -> list[CaseVerdict]:
        """Return the cases of these statuses."""
        return [case for case in self.cases if case.status in statuses]

    @property
    def judged(self) -> list[CaseVerdict]:
        """The cases that have a verdict, be it "inconclusive"."""
        return [case for case in self.cases if case.metrics]

    def exit_code(self, *, allow_missing: bool = False, strict: bool = False) -> int:
        """Return what a gate ends with.

        Args:
            allow_missing: Whether cases of the baseline may be absent.
            strict: Whether what could not be settled fails too.

        Returns:
            1 if a case regressed, failed or is missing; 2 if nothing was compared;
            3 if *strict* and something is inconclusive, invalid or not comparable;
            else 0.
        """
        failing: list[CaseStatus] = ["regressed", "failed"]
        if not allow_missing and not self.cut_short:
            failing += ["missing", "renamed"]
        if self.with_status(*failing):
            return EXIT_REGRESSED
        if not self.judged:
            return EXIT_NOT_COMPARED
        unsettled = self.with_status("inconclusive", "invalid", "not comparable")
        return EXIT_INCONCLUSIVE if strict and unsettled else EXIT_PASSED
