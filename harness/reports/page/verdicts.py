"""The part of the page that says what changed: verdict by verdict, with intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.reports.page.axes import figure_text
from harness.reports.page.markup import tag
from harness.reports.page.view import cut
from harness.reports.verdict.metrics import ERRORS
from harness.reports.verdict.model import CASE_STATUSES
from harness.reports.verdict.words import (
    change_text,
    interval_text,
    method_line,
    ratio_text,
    shown_metrics,
    side_line,
    threshold_text,
    value_text,
)
from harness.reports.wording import counted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from harness.reports.page.markup import Child
    from harness.reports.verdict.model import CaseVerdict, Comparison, MetricVerdict

_PLOT_WIDTH, _PLOT_HEIGHT = 220.0, 22.0
# The plot shows at least this change, and cuts off what lies beyond the other.
_RATIO_SHOWN_MIN, _RATIO_SHOWN_MAX = 1.08, 6.0
_TICKS = (1.02, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)
# Each status has a sign of its own: colour alone tells some readers nothing.
SIGNS = {
    "regressed": "▲",
    "failed": "✕",
    "missing": "∅",
    "renamed": "→",
    "not comparable": "≠",
    "invalid": "!",
    "inconclusive": "?",
    "improved": "▼",
    "equivalent": "=",
    "new": "+",
}


def badge(status: str) -> Element:
    """Return a status as a sign and a word."""
    return tag(
        "span",
        tag("span", SIGNS.get(status, "·"), aria_hidden="true"),
        f" {status}",
        class_=f"badge is-{status.replace(' ', '-')}",
    )


def headline(comparison: Comparison) -> str:
    """Return the verdict in one sentence."""
    counts = {s: len(comparison.with_status(s)) for s in CASE_STATUSES}
    cases = counted(len(comparison.cases), "case")
    if counts["regressed"]:
        return f"{counts['regressed']} of {cases} regressed"
    if counts["failed"] or counts["missing"] or counts["renamed"]:
        lost = counts["failed"] + counts["missing"] + counts["renamed"]
        return f"{lost} of {cases} failed or {'is' if lost == 1 else 'are'} missing"
    if not comparison.judged:
        return "Nothing could be compared"
    if counts["inconclusive"]:
        return (
            f"No regression found; {counts['inconclusive']} of {cases} cannot be told "
            "yet"
        )
    return "No regression found"


def verdict_section(comparison: Comparison) -> Element:
    """Return the table of verdicts, with the interval of each change drawn in it."""
    reach = _reach(comparison)
    notes = [*comparison.notes]
    if comparison.judged:
        notes.append(method_line(comparison))
    rows: list[Element] = []
    for case in comparison.cases:
        rows += _case_rows(case, reach)
    heads: list[Child] = [
        tag("th", "case", scope="col"),
        tag("th", "metric", scope="col"),
        tag("th", "change", scope="col", class_="num"),
        tag(
            "th",
            tag("span", "change with 95 % interval", class_="plothead"),
            _plot_axis(reach),
            scope="col",
            class_="plot",
        ),
        *(
            tag("th", text, scope="col", class_="num")
            for text in ("matters", "baseline", "contender")
        ),
    ]
    return tag(
        "section",
        tag("h2", "Verdicts", id="verdicts"),
        tag(
            "dl",
            *_side("baseline", side_line(comparison.baseline)),
            *_side("contender", side_line(comparison.contender)),
            class_="sides",
        ),
        tag("ul", *(tag("li", note) for note in notes), class_="notes")
        if notes
        else None,
        scroller(
            tag(
                "table",
                tag("caption", "Verdict of every case, worst first", class_="unseen"),
                tag("thead", tag("tr", *heads)),
                tag("tbody", *rows),
                class_="verdicts",
            ),
            label="Table of verdicts",
        ),
        tag(
            "p",
            "In the drawn column: dot, the estimate; bar, its 95 % interval; shaded, "
            "the change that does not matter to the case; upright line, no change. "
            "Left is less than the baseline. An arrow goes on beyond the edge.",
            class_="legend",
        ),
    )


def scroller(table: Element, *, label: str) -> Element:
    """Return a table that scrolls by itself where the page is narrow."""
    return tag(
        "div", table, class_="scroll", role="region", aria_label=label, tabindex="0"
    )


def _side(name: str, text: str) -> tuple[Element, Element]:
    return tag("dt", name), tag("dd", text)


def _case_rows(case: CaseVerdict, reach: float) -> list[Element]:
    name = cut(case.fullname, 240)
    path, _, inner = name.rpartition("::")
    why = list(case.reasons)
    shown = shown_metrics(case)
    why += [f"{v.metric}: {v.reason}" for v in shown if v.reason]
    head: list[Child] = [
        tag(
            "th",
            badge(case.status),
            tag("span", inner.removeprefix("test_"), class_="name"),
            tag("span", path, class_="path"),
            tag("span", cut("; ".join(why), 400), class_="why") if why else None,
            scope="row",
            rowspan=str(max(1, len(shown))),
        ),
    ]
    if not shown:
        return [tag("tr", *head, tag("td", colspan="6"), class_="first")]
    rows = []
    for index, verdict in enumerate(shown):
        cells: list[Child] = [*head] if index == 0 else []
        rows.append(
            tag(
                "tr",
                *cells,
                *_metric_cells(verdict, reach),
                class_="first" if index == 0 else None,
            )
        )
    return rows


def _metric_cells(verdict: MetricVerdict, reach: float) -> list[Element]:
    return [
        tag("td", verdict.metric),
        tag(
            "td",
            change_text(verdict),
            tag("span", interval_text(verdict), class_="interval")
            if verdict.interval
            else None,
            class_=f"num strong is-{verdict.status}",
        ),
        tag("td", _plot(verdict, reach), class_="plot"),
        tag("td", threshold_text(verdict), class_="num"),
        tag("td", _value(verdict, verdict.baseline), class_="num"),
        tag("td", _value(verdict, verdict.contender), class_="num"),
    ]


def _value(verdict: MetricVerdict, value: float) -> str:
    if verdict.metric == ERRORS or verdict.higher_is_better:
        return value_text(verdict, value)
    return figure_text(value)


def _reach(comparison: Comparison) -> float:
    """Return the largest ratio that the plot must show, either way."""
    sizes = [
        abs(math.log(end))
        for case in comparison.judged
        for v in shown_metrics(case)
        if v.ratio
        for end in (v.interval or (v.ratio, v.ratio))
        if end > 0
    ]
    widest = math.exp(max(sizes, default=0.0)) * 1.03
    return min(max(widest, _RATIO_SHOWN_MIN), _RATIO_SHOWN_MAX)


def _left(ratio: float, reach: float) -> float:
    """Return the place of a ratio, by its logarithm; 1 is in the middle."""
    share = math.log(ratio) / math.log(reach) if ratio > 0 else -1.0
    return 8 + (1 + max(-1.0, min(1.0, share))) / 2 * (_PLOT_WIDTH - 16)


def _plot_axis(reach: float) -> Element:
    inside = [tick for tick in _TICKS if tick <= reach]
    # The largest that fits, and no change: more would not be legible here.
    ends = [1 / inside[-1], inside[-1]] if inside else []
    marks = [
        tag(
            "text",
            "0" if ratio == 1 else ratio_text(ratio).replace(".0", ""),
            x=f"{_left(ratio, reach):.1f}",
            y="12",
            text_anchor="middle",
            class_="tick",
        )
        for ratio in (*ends, 1.0)
    ]
    return tag(
        "svg",
        *marks,
        viewBox=f"0 0 {_PLOT_WIDTH:g} 16",
        width=f"{_PLOT_WIDTH:g}",
        height="16",
        aria_hidden="true",
    )


def _plot(verdict: MetricVerdict, reach: float) -> Element | None:
    if verdict.ratio is None or verdict.ratio <= 0:
        return None
    low, high = verdict.interval or (verdict.ratio, verdict.ratio)
    middle = _PLOT_HEIGHT / 2
    width_of = 1 + verdict.threshold
    band_left, band_right = _left(1 / width_of, reach), _left(width_of, reach)
    start, end = _left(low, reach), _left(high, reach)
    parts = [
        tag(
            "rect",
            x=f"{band_left:.1f}",
            y="2",
            width=f"{max(1.0, band_right - band_left):.1f}",
            height=f"{_PLOT_HEIGHT - 4:g}",
            class_="band",
        ),
        tag("path", d=f"M{_PLOT_WIDTH / 2:g} 0 v{_PLOT_HEIGHT:g}", class_="axis"),
    ]
    if verdict.interval:
        parts.append(
            tag("path", d=f"M{start:.1f} {middle:g} H{end:.1f}", class_="line thick")
        )
    for beyond, x, way in ((low < 1 / reach, 2.0, 1), (high > reach, 218.0, -1)):
        if beyond:
            path = f"M{x:g} {middle:g} l{6 * way} -5 v10 Z"
            parts.append(tag("path", d=path, class_="arrow"))
    is_inside = 1 / reach <= verdict.ratio <= reach
    if is_inside:
        parts.append(
            tag(
                "circle",
                cx=f"{_left(verdict.ratio, reach):.1f}",
                cy=f"{middle:g}",
                r="4",
                class_="dot",
            )
        )
    # The figures stand in the cells beside it.
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {_PLOT_WIDTH:g} {_PLOT_HEIGHT:g}",
        width=f"{_PLOT_WIDTH:g}",
        height=f"{_PLOT_HEIGHT:g}",
        class_=f"forest is-{verdict.status}",
        aria_hidden="true",
    )
