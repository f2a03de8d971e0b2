"""The charts of a stream: rows, batch duration, watermark lag and backlog over time."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from harness.reports.page.axes import axis_of, count_text, duration_text, seconds_text
from harness.reports.page.chart import Chart
from harness.reports.page.markup import tag
from harness.reports.page.view import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.page.view import CaseView

# Key of a case's details under which a stream's micro-batches are kept.
TIMELINE = "timeline"
_PANELS = {
    "rows_per_s": "rows per second",
    "batch_duration_s": "batch duration",
    "watermark_lag_s": "watermark lag",
    "backlog_rows": "backlog in rows",
}
# What held from the micro-batch before until this one; the others are at its end.
_STEPS = {"rows_per_s", "batch_duration_s"}
# From two of them on, a duration is read in this unit: lags of events with a clock of
# their own are days.
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))
_PANEL_HEIGHT, _PANEL_BOTTOM, _LAST_BOTTOM = 104.0, 14.0, 50.0
_POINTS_MAX = 2_000


def stream_charts(views: Sequence[CaseView]) -> list[Element]:
    """Draw every case that kept a timeline, one figure each."""
    return [
        drawn
        for view in views
        if view.block is not None
        and (drawn := _stream_chart(view, view.block.details.get(TIMELINE))) is not None
    ]


def _stream_chart(view: CaseView, timeline: Any) -> Element | None:
    columns = _columns(timeline)
    at_s = columns.pop("at_s", [])
    shown = [key for key in _PANELS if _points(at_s, columns.get(key, []))]
    if not shown:
        return None
    panels: list[Element] = []
    for key in shown:
        points = _points(at_s, columns[key])
        text: Callable[[float], str] = count_text
        if key.endswith("_s") and key != "rows_per_s":
            points, text = _in_one_unit(points)
        values = [value for _, value in points]
        is_last = key == shown[-1]
        x = axis_of(
            (t for t in at_s if t is not None),
            label="since the first micro-batch began" if is_last else "",
            text=seconds_text if is_last else (lambda _value: ""),
        )
        y = axis_of(values, label="", text=text)
        bottom = _LAST_BOTTOM if is_last else _PANEL_BOTTOM
        chart = Chart(x=x, y=y, height=_PANEL_HEIGHT + bottom, bottom=bottom)
        style = f"s{list(_PANELS).index(key)}"
        drawn = _steps(points) if key in _STEPS else points
        chart.area(drawn, style)
        chart.line(drawn, style)
        said = (
            f"from {text(min(values))} to {text(max(values))}, last {text(values[-1])}"
        )
        name = f"{_PANELS[key]} over time"
        panels.append(tag("h5", _PANELS[key]))
        panels.append(chart.svg(title=name, description=said))
    return tag("figure", tag("h4", cut(view.name, 80)), *panels, class_="stream")


def _in_one_unit(
    points: list[tuple[float, float]],
) -> tuple[list[tuple[float, float]], Callable[[float], str]]:
    """Return long durations in minutes, hours or days, and how they are written."""
    longest = max(value for _, value in points)
    for size, unit in _UNITS:
        if longest >= 2 * size:
            scaled = [(at, value / size) for at, value in points]
            return scaled, functools.partial(_long_text, unit=unit)
    return points, duration_text


def _long_text(value: float, *, unit: str) -> str:
    return f"{value:,.3g} {unit}" if value else "0"


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a line that stays level from one point back to the last."""
    corners = []
    before = 0.0
    for at, value in points:
        corners += [(before, value), (at, value)]
        before = at
    return corners


def _columns(timeline: Any) -> dict[str, list[float | None]]:
    """Return the columns that are lists of numbers; a report may hold anything."""
    if not isinstance(timeline, dict):
        return {}
    return {
        key: [_number(value) for value in values[:_POINTS_MAX]]
        for key, values in timeline.items()
        if isinstance(values, list)
    }


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value >= 0 else None


def _points(
    at_s: Sequence[float | None], values: Sequence[float | None]
) -> list[tuple[float, float]]:
    return [
        (at, value)
        for at, value in zip(at_s, values, strict=False)
        if at is not None and value is not None
    ]
