"""The part of the page about time: where a case changed its level, night by night."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.history.words import change_line, drift_line
from harness.reports.page.axes import Axis, axis_of, count_text, duration_text
from harness.reports.page.chart import Chart, Key, figure
from harness.reports.page.markup import tag
from harness.reports.page.view import cut
from harness.reports.verdict.metrics import ERRORS
from harness.reports.verdict.words import ratio_text
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.history.model import Change, History, Point, Series
    from harness.reports.page.results import Drawings

# Fewer nights than these make no line worth a chart.
NIGHTS_DRAWN_MIN = 3
# More points than these cannot be told apart on a chart; neighbours are joined.
_POINTS_MAX = 300
_CHARTS_MAX = 40
_LINES_MAX = 60
_NIGHTS_LABELLED = 5


def history_section(
    history: History, cases: Collection[str], drawings: Drawings
) -> Element | None:
    """Return the section, or None where no case has nights enough.

    Args:
        history: The history of the folder of reports.
        cases: Node ids of this run; others are of no interest here.
        drawings: Says how much room there is.
    """
    found = [series for series in history.series if series.fullname in cases]
    long_enough = [s for s in found if len(s.points) >= NIGHTS_DRAWN_MIN]
    if not long_enough:
        return None
    lines = [
        line
        for series in found
        for line in (
            *(change_line(series, change) for change in reversed(series.changes)),
            *([drift_line(series)] if series.drift is not None else []),
        )
    ]
    shown = _worth_drawing(long_enough)
    charts = drawings.fitting([history_chart(s) for s in shown[:_CHARTS_MAX]])
    rest = len(long_enough) - len(charts)
    return tag(
        "section",
        tag("h2", "History", id="history"),
        tag(
            "ul",
            *(tag("li", cut(line, 400)) for line in lines[:_LINES_MAX]),
            class_="notes",
        )
        if lines
        else tag("p", "No change of level in any series of these cases."),
        tag("div", *charts, class_="charts"),
        tag(
            "p",
            f"{rest} further series without a change are not drawn.",
            class_="legend",
        )
        if rest
        else None,
    )


def _worth_drawing(found: Sequence[Series]) -> list[Series]:
    """Return each series that changed, and the first metric of every other case."""
    changed = [s for s in found if s.changes or s.drift is not None]
    cases = {series.fullname for series in changed}
    others = []
    for series in found:
        if series.fullname not in cases and series.metric != ERRORS:
            cases.add(series.fullname)
            others.append(series)
    return [*changed, *others]


def history_chart(series: Series) -> Element:
    """Draw every night, the levels between changes, and the changes themselves."""
    points = series.points
    text = _text_of(series)
    nights = [float(index) for index in range(len(points))]
    x = Axis(
        low=0.0,
        high=max(1.0, nights[-1]),
        ticks=_night_ticks(points),
        label="night of the run",
    )
    # Room above the points for the size of a change.
    values = [point.value for point in points]
    top = max(values) * (1.2 if series.changes else 1.0)
    y = axis_of((*values, top), label="", text=text)
    chart = Chart(x=x, y=y)
    for change in series.changes:
        chart.upright(change.index - 0.5, f"dashed {_style(change)}")
    for index, value, point in _joined(points):
        title = f"{point.at:%Y-%m-%d} {point.commit[:9]}: {text(value)}"
        chart.dot(index, value, "s5", title=title, radius=2.6)
    ends = [0, *(change.index for change in series.changes), len(points)]
    for start, end in itertools.pairwise(ends):
        level = float(np.median([point.value for point in points[start:end]]))
        chart.line([(max(0.0, start - 0.5), level), (end - 0.5, level)], "s2")
    for change in series.changes:
        chart.note(
            change.index - 0.5,
            y.high,
            ratio_text(change.ratio),
            style=f"strong {_style(change)}",
        )
    keys = [
        Key(style="s5", text="a night", mark="dot"),
        Key(style="s2", text="median of a level"),
    ]
    keys += [
        Key(style=f"dashed {_style(change)}", text=change.status)
        for change in {change.status: change for change in series.changes}.values()
    ]
    case = series.fullname.rpartition("::")[2].removeprefix("test_")
    said = "; ".join(change_line(series, change) for change in series.changes)
    reasons = [
        cut(change.acknowledged, 120)
        for change in series.changes
        if change.acknowledged is not None
    ]
    return figure(
        chart.svg(
            title=f"History of {series.metric} over {counted(len(points), 'night')}",
            description=said or "No change of level",
        ),
        heading=cut(f"{case}: {series.metric}", 90),
        keys=keys,
        caption=f"Acknowledged: {'; '.join(reasons)}" if reasons else "",
    )


def _style(change: Change) -> str:
    return "worse" if change.status == "regressed" else "better"


def _text_of(series: Series) -> Callable[[float], str]:
    if series.metric == ERRORS:
        return lambda share: f"{share:.3g}"
    if series.higher_is_better:
        return lambda rate: f"{count_text(rate)}/s"
    return duration_text


def _joined(points: Sequence[Point]) -> list[tuple[float, float, Point]]:
    """Return (place, median, last point) of at most so many groups of neighbours."""
    size = -(-len(points) // _POINTS_MAX)
    groups = [
        (start, points[start : start + size]) for start in range(0, len(points), size)
    ]
    return [
        (
            start + (len(group) - 1) / 2,
            float(np.median([point.value for point in group])),
            group[-1],
        )
        for start, group in groups
    ]


def _night_ticks(points: Sequence[Point]) -> tuple[tuple[float, str], ...]:
    count = min(_NIGHTS_LABELLED, len(points))
    places = np.linspace(0, len(points) - 1, count).round().astype(int)
    return tuple(
        (float(place), f"{points[place].at:%Y-%m-%d}")
        for place in dict.fromkeys(places.tolist())
    )
