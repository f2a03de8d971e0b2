"""A history as data: what a table or a page of it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One night of one case: the median of its runs, where there were several.

    Attributes:
        at: When its first run started, in UTC.
        commit: Commit it ran on, or "".
        value: The metric; seconds, per second, or a share of operations.
        runs: Runs it is the median of.
        report: The newest of their reports.
    """

    at: datetime
    commit: str
    value: float
    runs: int
    report: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A place where the series changed its level.

    Attributes:
        index: The first point of the new level.
        before: Median of the level before.
        after: Median of the level from there on.
        ratio: after / before.
        p_value: Of Student's t test between both levels.
        status: Whether it got worse or better.
        last_before: The last point of the old level.
        first_after: The first point of the new one: what happened lies between.
        acknowledged: The reason somebody gave, or None.
    """

    index: int
    before: float
    after: float
    ratio: float
    p_value: float
    status: Literal["regressed", "improved"]
    last_before: Point
    first_after: Point
    acknowledged: str | None = None

    @property
    def commit_range(self) -> str:
        """The commits to look at: "0123456..89abcde"; "" where none is known."""
        old, new = self.last_before.commit[:9], self.first_after.commit[:9]
        return f"{old}..{new}" if old and new and old != new else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """A slow slide with no one place where it happened.

    Attributes:
        ratio: Last end of the fitted line / its first.
        p_value: Of the Mann-Kendall test.
        status: Whether it got worse or better.
        acknowledged: The reason somebody gave, or None.
    """

    ratio: float
    p_value: float
    status: Literal["regressed", "improved"]
    acknowledged: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One metric of one case over time.

    Attributes:
        fullname: The node id.
        metric: See `harness.reports.verdict.metrics`.
        higher_is_better: Whether more of it is good.
        points: Oldest first; all comparable with the newest.
        changes: Oldest first.
        drift: None where there is none.
        left_out: Runs that were not comparable with the newest.
    """

    fullname: str
    metric: str
    higher_is_better: bool
    points: tuple[Point, ...]
    changes: tuple[Change, ...] = ()
    drift: Drift | None = None
    left_out: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All series of a folder of reports.

    Attributes:
        series: By case and metric.
        notes: Sentences about what was left out, or acknowledged for nothing.
    """

    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()

    @property
    def open_drifts(self) -> list[Series]:
        """Series that slid for the worse, and nobody has acknowledged it."""
        return [
            series
            for series in self.series
            if series.drift is not None
            and series.drift.status == "regressed"
            and series.drift.acknowledged is None
        ]

    def open_changes(
        self, *, status: str = "regressed", since: datetime | None = None
    ) -> list[tuple[Series, Change]]:
        """Return the changes nobody has acknowledged.

        Args:
            status: "regressed" or "improved".
            since: Only those whose new level began at or after this moment.
        """
        return [
            (series, change)
            for series in self.series
            for change in series.changes
            if change.status == status
            and change.acknowledged is None
            and (since is None or change.first_after.at >= since)
        ]
