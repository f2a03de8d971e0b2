"""The charts of load: percentiles, parts of the response time, the knee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.load import QUANTILES
from harness.reports.page.axes import Axis, axis_of, count_text, duration_text
from harness.reports.page.axes import seconds_text as on_time_axis
from harness.reports.page.chart import (
    COLOURS,
    LEFT,
    RIGHT,
    WIDTH,
    Chart,
    Key,
    drawing,
    figure,
)
from harness.reports.page.markup import tag
from harness.reports.page.view import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.analysis import LoadSeries
    from harness.reports.page.view import CaseView

# Seconds of a run below which its throughput over time says nothing.
TIMELINE_FROM = 5
_NINES = {
    0.0: "0",
    0.30103: "50 %",
    1.0: "90 %",
    2.0: "99 %",
    3.0: "99.9 %",
    4.0: "99.99 %",
    5.0: "99.999 %",
}
# What the quantiles with an interval are on the axis of nines.
_NINES_OF = {"p50": 0.30103, "p90": 1.0, "p99": 2.0, "p99_9": 3.0}
PARTS = {
    "start_delay": "start delay",
    "checkout_wait": "checkout wait",
    "service_time": "service time",
}
_LABEL_CHARACTERS = 62


def percentile_charts(
    views: Sequence[CaseView], before: Mapping[str, CaseView]
) -> list[Element]:
    """Draw how long the slowest share of operations took, six cases a chart."""
    curves = [(view, view.curve()) for view in views]
    drawn = [(view, curve) for view, curve in curves if curve]
    return [
        _percentile_chart(drawn[start : start + COLOURS], before)
        for start in range(0, len(drawn), COLOURS)
    ]


def _percentile_chart(
    drawn: list[tuple[CaseView, list[tuple[float, float]]]],
    before: Mapping[str, CaseView],
) -> Element:
    measure = drawn[0][0].measure
    olds = [
        before[view.fullname].curve() if view.fullname in before else []
        for view, _ in drawn
    ]
    points = [point for _, curve in drawn for point in curve]
    points += [point for old in olds for point in old]
    nines_max = max(nines for nines, _ in points)
    x = Axis(
        low=0.0,
        high=max(nines_max, 1.0) + 0.02,
        ticks=tuple((n, text) for n, text in _NINES.items() if n <= nines_max + 0.03),
        label="share of operations that took no longer",
    )
    y = axis_of((v for _, v in points), label="", text=duration_text, may_be_log=True)
    chart = Chart(x=x, y=y)
    keys = []
    for index, ((view, curve), old) in enumerate(zip(drawn, olds, strict=True)):
        chart.line(old, f"s{index} dashed")
        chart.line(curve, f"s{index}")
        if len(drawn) == 1 and view.block is not None:
            for key, (low, high) in view.block.intervals_ms.items():
                if key in _NINES_OF and _NINES_OF[key] <= nines_max:
                    chart.whisker(_NINES_OF[key], low / 1e3, high / 1e3, f"s{index}")
        keys.append(Key(style=f"s{index}", text=cut(view.label, 60)))
    if any(olds):
        keys.append(Key(style="quiet dashed", text="the same in the baseline"))
    said = "; ".join(_quantile_words(view) for view, _ in drawn)
    drawing_ = chart.svg(title=f"Percentile curve of {measure}", description=said)
    caption = "Each division to the right is ten times rarer"
    if len(drawn) == 1 and drawn[0][0].block and drawn[0][0].block.intervals_ms:
        caption += "; bars are 95 % intervals"
    caption += ". A curve ends where too few values support it."
    return figure(
        drawing_, heading=f"Percentiles of {measure}", keys=keys, caption=caption
    )


def _quantile_words(view: CaseView) -> str:
    found = [
        f"{key.replace('_', '.')} {duration_text(value)}"
        for key in QUANTILES
        if (value := view.duration_s(key)) is not None
    ]
    return f"{cut(view.label, 60)}: {', '.join(found)}"


def split_charts(views: Sequence[CaseView]) -> list[Element]:
    """Draw where the response time went, six cases a chart."""
    found = [view for view in views if view.block is not None and view.block.split_ms]
    return [
        _split_chart(found[start : start + COLOURS])
        for start in range(0, len(found), COLOURS)
    ]


def _split_chart(views: Sequence[CaseView]) -> Element:
    rows = [
        (view, part, *_p50_p99_s(view, part))
        for view in views
        for part in PARTS
        if view.block is not None and part in view.block.split_ms
    ]
    axis = axis_of(
        (p99 or p50 for _, _, p50, p99 in rows), label="", text=duration_text
    )
    marks: list[Element] = []
    top, said = 4.0, []
    width = WIDTH - LEFT - RIGHT

    def left_of(value: float) -> float:
        return LEFT + axis.at(value) * width

    last = None
    for view, part, p50, p99 in rows:
        if view is not last:
            top += 17
            marks.append(
                tag(
                    "text",
                    cut(view.label, _LABEL_CHARACTERS),
                    x="2",
                    y=f"{top:g}",
                    class_="rowname",
                )
            )
            top += 7
            last = view
        style = f"p-{part.replace('_', '-')}"
        middle = top + 5
        marks.append(
            tag(
                "rect",
                tag("title", f"{PARTS[part]}: p50 {duration_text(p50)}"),
                x=f"{LEFT:g}",
                y=f"{top:g}",
                width=f"{max(1.0, left_of(p50) - LEFT):.1f}",
                height="10",
                class_=style,
            )
        )
        if p99 is not None:
            path = (
                f"M{left_of(p50):.1f} {middle:g} H{left_of(p99):.1f} "
                f"M{left_of(p99):.1f} {middle - 4:g} v8"
            )
            marks.append(tag("path", d=path, class_=f"line {style}"))
        tail = f", p99 {duration_text(p99)}" if p99 is not None else ""
        said.append(f"{view.label} {PARTS[part]} p50 {duration_text(p50)}{tail}")
        top += 13
    floor = top + 4
    grid: list[Element] = []
    for value, text in axis.ticks:
        left = f"{left_of(value):.1f}"
        grid.append(tag("path", d=f"M{left} 8 V{floor:g}", class_="grid"))
        grid.append(
            tag(
                "text",
                text,
                x=left,
                y=f"{floor + 16:g}",
                text_anchor="middle",
                class_="tick",
            )
        )
    drawn = drawing(
        *grid,
        *marks,
        width=WIDTH,
        height=floor + 24,
        title="Response time by part",
        description="; ".join(said),
    )
    return figure(
        drawn,
        heading="Where the response time went",
        keys=[
            Key(style=f"p-{part.replace('_', '-')} thick", text=text)
            for part, text in PARTS.items()
        ],
        caption="Bar: half of the operations took no longer (p50). Line: up to p99. "
        "The parts add up per operation; their quantiles need not.",
    )


def _p50_p99_s(view: CaseView, part: str) -> tuple[float, float | None]:
    quantiles = view.block.split_ms[part] if view.block else {}
    p99 = quantiles.get("p99")
    return quantiles.get("p50", 0.0) / 1e3, None if p99 is None else p99 / 1e3


def knee_chart(series: LoadSeries) -> Element:
    """Draw throughput against response time, level by level."""
    levels = series.levels
    x = axis_of(
        (level.throughput_per_s for level in levels),
        label="completed operations per second",
        text=count_text,
    )
    times = [t for level in levels for t in (level.p50_s, level.p99_s) if t is not None]
    y = axis_of(times, label="", text=duration_text, may_be_log=True)
    chart = Chart(x=x, y=y)
    p99 = [(v.throughput_per_s, v.p99_s) for v in levels if v.p99_s is not None]
    p50 = [(v.throughput_per_s, v.p50_s) for v in levels]
    chart.line(p99, "s1 dashed")
    chart.line(p50, "s0")
    said = []
    for level in levels:
        words = (
            f"{series.varied} {level.level:g}: {count_text(level.throughput_per_s)}/s, "
            f"p50 {duration_text(level.p50_s)}"
        )
        said.append(words)
        if level.p99_s is not None:
            chart.dot(level.throughput_per_s, level.p99_s, "s1", title=words)
        chart.dot(level.throughput_per_s, level.p50_s, "s0", title=words)
        is_knee = level is series.knee
        if is_knee:
            chart.dot(level.throughput_per_s, level.p50_s, "ring", radius=7.5)
        text = f"{level.level:g}" + (" (knee)" if is_knee else "")
        chart.note(
            level.throughput_per_s,
            level.p50_s,
            text,
            style="strong" if is_knee else "",
        )
    knee = (
        f" Knee, ringed: most throughput per response time, at {series.varied} "
        f"{series.knee.level:g}."
        if series.knee is not None
        else ""
    )
    return figure(
        chart.svg(
            title="Throughput against response time", description="; ".join(said)
        ),
        heading=f"Throughput against response time by {series.varied}",
        keys=[Key(style="s0", text="p50"), Key(style="s1 dashed", text="p99")],
        caption=f"{cut(series.name, 80)}. Numbers: {series.varied}.{knee}",
    )


def throughput_charts(views: Sequence[CaseView]) -> list[Element]:
    """Draw completed operations in each second of the run, six cases a chart."""
    found = [
        view
        for view in views
        if view.block is not None and len(view.block.per_second) >= TIMELINE_FROM
    ]
    return [
        _throughput_chart(found[start : start + COLOURS])
        for start in range(0, len(found), COLOURS)
    ]


def _throughput_chart(views: Sequence[CaseView]) -> Element:
    lines = [
        _thinned([float(v) for v in view.block.per_second])
        for view in views
        if view.block is not None
    ]
    seconds = max(line[-1][0] for line in lines)
    x = axis_of((seconds,), label="since the beginning", text=on_time_axis)
    y = axis_of((v for line in lines for _, v in line), label="", text=count_text)
    chart = Chart(x=x, y=y)
    for index, line in enumerate(lines):
        chart.line(line, f"s{index}")
    keys = [
        Key(style=f"s{index}", text=cut(view.label, 60))
        for index, view in enumerate(views)
    ]
    said = "; ".join(
        f"{key.text}: {count_text(min(v for _, v in line))} to "
        f"{count_text(max(v for _, v in line))} per second"
        for key, line in zip(keys, lines, strict=True)
    )
    return figure(
        chart.svg(title="Throughput over time", description=said),
        heading="Completed per second",
        keys=keys,
    )


def _thinned(values: list[float], count_max: int = 240) -> list[tuple[float, float]]:
    """Return (second, mean) of at most so many groups of neighbours."""
    size = -(-len(values) // count_max)
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    return [
        (index * size + len(group) / 2, sum(group) / len(group))
        for index, group in enumerate(groups)
    ]
