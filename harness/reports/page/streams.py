"""The charts of a stream: rows, batch duration, watermark lag and backlog over time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.reports.page.axes import axis_of, count_text, duration_text, seconds_text
from harness.reports.page.chart import Chart
from harness.reports.page.markup import tag
from harness.reports.page.view import cut

if TYPE_CHECKING:
    from collections.abc import Sequence
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
        is_last = key == shown[-1]
        x = axis_of(
            (t for t in at_s if t is not None),
            label="since the first micro-batch" if is_last else "",
            text=seconds_text if is_last else (lambda _value: ""),
        )
        text = duration_text if key.endswith("_s") and "rows" not in key else count_text
        y = axis_of((v for _, v in points), label="", text=text)
        bottom = _LAST_BOTTOM if is_last else _PANEL_BOTTOM
        chart = Chart(x=x, y=y, height=_PANEL_HEIGHT + bottom, bottom=bottom)
        style = f"s{list(_PANELS).index(key)}"
        chart.area(points, style)
        chart.line(points, style)
        values = [value for _, value in points]
        said = (
            f"from {text(min(values))} to {text(max(values))}, last {text(values[-1])}"
        )
        name = f"{_PANELS[key]} over time"
        panels.append(tag("h5", _PANELS[key]))
        panels.append(chart.svg(title=name, description=said))
    return tag("figure", tag("h4", cut(view.name, 80)), *panels, class_="stream")


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
