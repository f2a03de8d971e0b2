"""A history in words: the same sentences for terminal and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.reports.history.acknowledged import Acknowledgement
from harness.reports.table import format_duration, format_rate
from harness.reports.verdict.words import ratio_text
from harness.reports.wording import counted

if TYPE_CHECKING:
    from harness.reports.history.model import Change, History, Series


def history_lines(history: History) -> list[str]:
    """Return the whole history as text: changes first, then what was left out."""
    lines = []
    for series in history.series:
        lines += [change_line(series, change) for change in series.changes]
        if series.drift is not None:
            lines.append(drift_line(series))
    if not lines:
        lines = ["no change of level in any series"]
    nights = max(len(series.points) for series in history.series)
    left_out: dict[str, int] = {s.fullname: s.left_out for s in history.series}
    lines += [
        f"left out: {counted(count, 'run')} of {name} not comparable with the newest"
        for name, count in left_out.items()
        if count
    ]
    lines += history.notes
    cases = len(left_out)
    lines.append(
        f"HISTORY: {counted(cases, 'case')} over up to {counted(nights, 'night')}"
    )
    return lines


def change_line(series: Series, change: Change) -> str:
    """Return one change: "REGRESSED +15.2 % ...", with its night and commits."""
    old, new = value_text(series, change.before), value_text(series, change.after)
    commits = f", commits {change.commit_range}" if change.commit_range else ""
    closed = (
        f"; acknowledged: {change.acknowledged}"
        if change.acknowledged is not None
        else ""
    )
    return (
        f"{change.status.upper()} {ratio_text(change.ratio)}: {series.fullname} "
        f"{series.metric} from {old} to {new} between "
        f"{change.last_before.at:%Y-%m-%d} and {change.first_after.at:%Y-%m-%d}"
        f"{commits}{closed}"
    )


def drift_line(series: Series) -> str:
    """Return a drift: it has no night of its own."""
    assert series.drift is not None  # noqa: S101  # the caller looked
    reason = series.drift.acknowledged
    closed = f"; acknowledged: {reason}" if reason is not None else ""
    return (
        f"DRIFT {ratio_text(series.drift.ratio)} ({series.drift.status}): "
        f"{series.fullname} {series.metric} over "
        f"{counted(len(series.points), 'night')} since "
        f"{series.points[0].at:%Y-%m-%d}{closed}"
    )


def value_text(series: Series, value: float) -> str:
    """Return a value in the unit of its metric."""
    return format_rate(value) if series.higher_is_better else format_duration(value)


def acknowledgements_of(history: History, *, reason: str) -> list[Acknowledgement]:
    """Return an entry for every open change, better ones included."""
    changes = [
        *history.open_changes(status="regressed"),
        *history.open_changes(status="improved"),
    ]
    return [
        Acknowledgement(
            case=series.fullname,
            metric=series.metric,
            since=change.first_after.commit or f"{change.first_after.at:%Y-%m-%d}",
            reason=reason,
        )
        for series, change in changes
    ] + [
        Acknowledgement(
            case=series.fullname,
            metric=series.metric,
            since=f"{series.points[-1].at:%Y-%m-%d}",
            reason=reason,
        )
        for series in history.open_drifts
    ]
