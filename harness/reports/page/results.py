"""The part of the page that shows what was measured, group by group."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from harness.load import QUANTILES, samples_needed
from harness.reports.page.axes import count_text, duration_text, figure_text
from harness.reports.page.curves import (
    knee_chart,
    percentile_charts,
    split_charts,
    throughput_charts,
)
from harness.reports.page.markup import tag
from harness.reports.page.streams import stream_charts
from harness.reports.page.verdicts import scroller
from harness.reports.page.view import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.reports.analysis import LoadSeries
    from harness.reports.page.markup import Child
    from harness.reports.page.view import CaseView

_COLUMNS = ("p50", "p95", "p99")
_LEVELS_DRAWN = 2
# A page over two megabytes opens slowly; tables come first, drawings while there is
# room, in characters.
DRAWING_BUDGET = 1_100_000
_DETAIL_CHARACTERS = 200
_DETAILS_MAX = 40


class Drawings:
    """Lets charts onto the page while there is room for them."""

    def __init__(self, budget: int = DRAWING_BUDGET) -> None:
        self._left = budget
        self.left_out = 0

    def fitting(self, charts: Sequence[ET.Element]) -> list[ET.Element]:
        """Return those that fit, and count the others."""
        kept = []
        for chart in charts:
            size = len(ET.tostring(chart, encoding="unicode"))
            if size <= self._left:
                self._left -= size
                kept.append(chart)
            else:
                self.left_out += 1
        return kept


def group_sections(
    views: Sequence[CaseView],
    before: Mapping[str, CaseView],
    series: Sequence[LoadSeries],
    drawings: Drawings,
) -> list[ET.Element]:
    """Return a section for each benchmark group."""
    groups: defaultdict[str, list[CaseView]] = defaultdict(list)
    for view in views:
        groups[view.group].append(view)
    sections = []
    for number, group in enumerate(sorted(groups)):
        cases = sorted(groups[group], key=lambda view: view.name)
        knees = [
            knee_chart(found)
            for found in series
            if found.group == group and len(found.levels) > _LEVELS_DRAWN
        ]
        charts = [
            *knees,
            *percentile_charts(cases, before),
            *split_charts(cases),
            *throughput_charts(cases),
            *stream_charts(cases),
        ]
        sections.append(
            tag(
                "section",
                tag("h3", group, id=f"group-{number}"),
                _table(group, cases, before),
                tag("div", *drawings.fitting(charts), class_="charts"),
                _further(cases),
                class_="group",
            )
        )
    return sections


def _table(
    group: str, cases: Sequence[CaseView], before: Mapping[str, CaseView]
) -> ET.Element:
    measures = {view.measure for view in cases}
    measure = measures.pop() if len(measures) == 1 else "duration"
    rows = [_row(view, before.get(view.fullname)) for view in cases]
    heads = [
        tag("th", "case", scope="col"),
        *(
            tag("th", text, scope="col", class_="num")
            for text in (*_COLUMNS, "throughput", "errors", "values")
        ),
    ]
    caption = f"{measure} of {group}"
    if any(view.fullname in before for view in cases):
        caption += "; below each figure, in grey, that of the baseline"
    return scroller(
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *rows),
            class_="results",
        ),
        label=f"Results of {group}",
    )


def _row(view: CaseView, old: CaseView | None) -> ET.Element:
    cells = []
    for key in _COLUMNS:
        value = view.duration_s(key)
        text = (
            figure_text(value)
            if value is not None
            else f"n < {samples_needed(QUANTILES[key])}"
        )
        was = old.duration_s(key) if old else None
        cells.append(
            _cell(
                text,
                None if was is None else figure_text(was),
                is_absent=value is None,
            )
        )
    cells.append(_cell(_throughput(view), _throughput(old) if old else None))
    cells.append(
        _cell(
            f"{view.errors_count:,}",
            f"{old.errors_count:,}" if old else None,
            is_bad=view.errors_count > 0,
        )
    )
    cells.append(
        _cell(f"{view.values_count:,}", f"{old.values_count:,}" if old else None)
    )
    doubts = len(view.block.doubts) if view.block else 0
    mark = (
        tag("a", f"{doubts} in doubt" if doubts > 1 else "in doubt", href="#doubts")
        if doubts
        else None
    )
    name = tag("span", view.name, class_="name")
    return tag("tr", tag("th", name, mark, scope="row"), *cells)


def _cell(
    text: str, was: str | None, *, is_absent: bool = False, is_bad: bool = False
) -> ET.Element:
    classes = "num" + (" absent" if is_absent else "") + (" bad" if is_bad else "")
    old = None if was is None else tag("span", was, class_="was")
    return tag("td", text, old, class_=classes)


def _throughput(view: CaseView) -> str:
    value = view.stats.get("throughput")
    # One caller's is 1 / mean: it says nothing that p50 does not.
    if not view.is_load or value is None:
        return "–"  # noqa: RUF001  # a dash for "does not apply"
    return f"{count_text(float(value))}/s"


def _further(cases: Sequence[CaseView]) -> ET.Element | None:
    """Return what else the records say, folded away."""
    parts: list[Child] = []
    for view in cases:
        figures = _figures(view)
        if figures:
            parts.append(tag("h5", view.name))
            parts.append(
                tag(
                    "dl",
                    *(
                        part
                        for key, value in figures[:_DETAILS_MAX]
                        for part in (tag("dt", cut(key, 60)), tag("dd", value))
                    ),
                    class_="facts",
                )
            )
    if not parts:
        return None
    return tag("details", tag("summary", "Conditions and further figures"), *parts)


def _figures(view: CaseView) -> list[tuple[str, str]]:
    block = view.block
    if block is None:
        return []
    about = {
        "schedule": block.schedule,
        "workers": block.workers,
        "crewing": block.crewing,
        "processes": block.processes,
        "wall time": None if block.wall_s is None else duration_text(block.wall_s),
        "errors by class": ", ".join(f"{k}: {v}" for k, v in block.errors.items()),
        "generator CPU (1 is a core)": block.generator_cpu_utilization,
    }
    figures = [(key, _plain(value)) for key, value in about.items() if value]
    if block.accounting is not None:
        counts = block.accounting.model_dump()
        shown = [f"{name} {count:,}" for name, count in counts.items()]
        figures.append(("operations", ", ".join(shown)))
    figures += [
        (
            f"{key} corrected",
            (
                f"{duration_text(both['uncorrected'] / 1e3)} as measured, "
                f"{duration_text(both['corrected'] / 1e3)} corrected for coordinated "
                "omission (a guess)"
            ),
        )
        for key, both in block.corrected_ms.items()
        if both.keys() >= {"uncorrected", "corrected"}
    ]
    figures += [
        (key, _plain(value))
        for key, value in block.details.items()
        if not isinstance(value, dict | list)
    ]
    figures += [(key, _plain(value)) for key, value in block.facts.items()]
    return figures


def _plain(value: object) -> str:
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return cut(text, _DETAIL_CHARACTERS)
