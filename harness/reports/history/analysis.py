"""From saved reports to histories with their change points."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.reports.history.acknowledged import read_acknowledgements
from harness.reports.history.divisive import (
    P_MAX,
    change_points,
    rest_of_levels,
    trend,
)
from harness.reports.history.index import measured_cases
from harness.reports.history.model import Change, Drift, History, Point, Series
from harness.reports.verdict.metrics import ERRORS, GATED, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.reports.history.acknowledged import Acknowledgement
    from harness.reports.history.index import Measured

# A slide of less than this over the whole history is left alone.
DRIFT_MIN = 0.05


def history_of(
    folder: Path,
    *,
    wanted: str = "",
    say: Callable[[int, int], None] | None = None,
) -> History:
    """Read a folder of reports as time series and look for changes.

    Args:
        folder: The folder of reports.
        wanted: Only cases with this in their node id.
        say: Told how many of how many changed reports have been read.

    Raises:
        ReportError: If the acknowledgements are damaged.
    """
    entries = read_acknowledgements(folder)
    used: set[int] = set()
    cases, notes = measured_cases(folder, say=say)
    by_name: defaultdict[str, list[Measured]] = defaultdict(list)
    for case in cases:
        if case.complete and wanted in case.fullname:
            by_name[case.fullname].append(case)
    series = []
    for fullname in sorted(by_name):
        runs = by_name[fullname]
        newest = runs[-1]
        alike = [
            run
            for run in runs
            if (run.kind, run.conditions) == (newest.kind, newest.conditions)
        ]
        for metric in GATED[newest.kind]:
            found = _series(fullname, metric, alike, left_out=len(runs) - len(alike))
            if found is not None:
                series.append(_acknowledged(found, entries, used))
    notes += [
        f"acknowledged for nothing: {entry.case} {entry.metric} since {entry.since}"
        for number, entry in enumerate(entries)
        if number not in used and not wanted
    ]
    return History(series=tuple(series), notes=tuple(notes))


def nights_of(runs: Sequence[Measured], metric: str) -> list[Point]:
    """Join the runs of one commit and day into one point: their median."""
    nights: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
    for run in runs:
        if metric in run.values:
            day = f"{run.started_at:%Y-%m-%d}"
            nights[day, run.commit].append(run)
    return [
        Point(
            at=night[0].started_at,
            commit=night[0].commit,
            value=float(np.median([run.values[metric] for run in night])),
            runs=len(night),
            report=night[-1].path,
        )
        for night in nights.values()
    ]


def _series(
    fullname: str, metric: str, runs: list[Measured], *, left_out: int
) -> Series | None:
    points = nights_of(runs, metric)
    if not points:
        return None
    series = Series(
        fullname=fullname,
        metric=metric,
        higher_is_better=METRICS[metric].higher_is_better,
        points=tuple(points),
        left_out=left_out,
    )
    if metric == ERRORS:
        return series  # mostly 0, which has no logarithm; the verdict judges errors
    values = [point.value for point in points]
    splits = change_points(values)
    indices = [split.index for split in splits]
    ends = [0, *indices, len(values)]
    changes = []
    for place, split in enumerate(splits):
        before = float(np.median(values[ends[place] : split.index]))
        after = float(np.median(values[split.index : ends[place + 2]]))
        changes.append(
            Change(
                index=split.index,
                before=before,
                after=after,
                ratio=after / before,
                p_value=split.p_value,
                status=_status(after / before, series),
                last_before=points[split.index - 1],
                first_after=points[split.index],
            )
        )
    return replace(
        series, changes=tuple(changes), drift=_drift(values, indices, series)
    )


def _drift(values: list[float], indices: list[int], series: Series) -> Drift | None:
    """Return the slide of a series that a line describes better than its levels."""
    line = trend(values)
    if line is None or line.p_value > P_MAX:
        return None
    small = 1 / (1 + DRIFT_MIN) < line.ratio < 1 + DRIFT_MIN
    if small or line.rest >= rest_of_levels(values, indices):
        return None
    return Drift(
        ratio=line.ratio, p_value=line.p_value, status=_status(line.ratio, series)
    )


def _status(ratio: float, series: Series) -> Literal["regressed", "improved"]:
    worse = ratio < 1 if series.higher_is_better else ratio > 1
    return "regressed" if worse else "improved"


def _acknowledged(
    series: Series, entries: list[Acknowledgement], used: set[int]
) -> Series:
    changes = []
    for change in series.changes:
        reason = None
        for number, entry in enumerate(entries):
            if entry.covers(series.fullname, series.metric, change):
                used.add(number)
                reason = entry.reason
        changes.append(replace(change, acknowledged=reason))
    drift = series.drift
    if drift is not None:
        for number, entry in enumerate(entries):
            if entry.covers_drift(series):
                used.add(number)
                drift = replace(drift, acknowledged=entry.reason)
    return replace(series, changes=tuple(changes), drift=drift)
