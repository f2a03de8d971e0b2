"""The cards of a group of cases: bars, numbers, what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.load import QUANTILES, samples_needed
from harness.monitor.markup import tag
from harness.reports.table import format_change, format_duration, format_rate
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

    from harness.monitor.views import CaseView
    from harness.reports.compare import CaseComparison

_SHOWN_QUANTILES = ("p50", "p95", "p99")


def group_section(
    group: str,
    comparisons: list[CaseComparison],
    views: Mapping[str, CaseView],
    old_views: Mapping[str, CaseView],
) -> Element:
    """Return the cards of one group, whose bars share one scale.

    Args:
        group: Its name.
        comparisons: Its cases; each has a contender.
        views: The run's cases by node id.
        old_views: The baseline's cases by node id.
    """
    shown: list[tuple[CaseComparison, CaseView, CaseView | None]] = []
    for comparison in sorted(comparisons, key=lambda c: c.fullname):
        is_compared = comparison.status == "compared"
        old = old_views.get(comparison.fullname) if is_compared else None
        shown.append((comparison, views[comparison.fullname], old))
    values_s = [
        value
        for _, new, old in shown
        for view in (new, old)
        if view is not None
        for value in _quantiles(view).values()
        if value is not None
    ]
    scale_s = max(values_s, default=0.0)
    measure = ", ".join(sorted({new.measure.replace("_", " ") for _, new, _ in shown}))
    return tag(
        "section",
        tag(
            "h2",
            group.replace("-", " "),
            tag("small", f"{measure}; a full bar is {format_duration(scale_s)}"),
        ),
        tag("div", *(_card(*entry, scale_s) for entry in shown), class_="cards"),
        class_="group" if len(shown) > 1 else "group single",
    )


def _card(
    comparison: CaseComparison, new: CaseView, old: CaseView | None, scale_s: float
) -> Element:
    about = [counted(new.values_count, "value")]
    if new.workers:
        about.append(counted(new.workers, "caller"))
    about.append(counted(new.errors_count, "error"))
    return tag(
        "article",
        tag("h3", new.name.removeprefix("test_")),
        _numbers(comparison, new, old, scale_s),
        tag("p", ", ".join(about), class_="about"),
        _why_alone(comparison),
        _facts(new),
    )


def _numbers(
    comparison: CaseComparison, new: CaseView, old: CaseView | None, scale_s: float
) -> Element:
    """Return the table of a card; without a baseline it has no columns for one."""
    new_s, old_s = _quantiles(new), _quantiles(old) if old else {}
    heads = ("now", "baseline", "change") if old else ("now",)
    rows = [
        tag(
            "tr",
            tag("th", key, scope="row"),
            tag("td", _bars(new_s[key], old_s.get(key), scale_s), class_="bars"),
            tag("td", _quantile(key, new_s[key]), class_="now"),
            *_beside(old, _quantile(key, old_s.get(key)), comparison.change(key)),
        )
        for key in _SHOWN_QUANTILES
    ]
    rate, old_rate = new.throughput_per_s, old.throughput_per_s if old else None
    rows.append(
        tag(
            "tr",
            tag("th", "throughput", scope="row", colspan="2"),
            tag("td", _rate(rate), class_="now"),
            *_beside(old, _rate(old_rate), comparison.change("throughput")),
        )
    )
    head = tag("td", colspan="2"), *(tag("th", text, scope="col") for text in heads)
    return tag(
        "table",
        tag("thead", tag("tr", *head)),
        tag("tbody", *rows),
        class_=None if old else "alone",
    )


def _beside(old: CaseView | None, before: str, change: float | None) -> list[Element]:
    if old is None:
        return []
    return [tag("td", before, class_="before"), tag("td", format_change(change))]


def _bars(new_s: float | None, old_s: float | None, scale_s: float) -> Element | None:
    """Return two bars, now above the baseline; the numbers stand beside them."""
    if new_s is None and old_s is None:
        return None

    def bar(value_s: float, y: str, height: str, class_: str) -> Element:
        width = 100 * value_s / scale_s if scale_s > 0 else 0.0
        # What was measured stays visible beside something a thousand times longer.
        return tag(
            "rect",
            x="0",
            y=y,
            width=f"{max(width, 0.4):.2f}",
            height=height,
            class_=class_,
        )

    return tag(
        "svg",
        bar(new_s, "1", "7", "bar-now") if new_s is not None else None,
        bar(old_s, "10", "5", "bar-before") if old_s is not None else None,
        viewBox="0 0 100 16",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _why_alone(comparison: CaseComparison) -> Element | None:
    if comparison.status != "not comparable":
        return None
    return tag(
        "p", "not comparable: ", "; ".join(comparison.reasons), class_="about why"
    )


def _facts(case: CaseView) -> Element | None:
    if not case.facts:
        return None
    pairs = [
        tag("div", tag("dt", key.replace("_", " ")), tag("dd", _shown_fact(value)))
        for key, value in sorted(case.facts.items())
    ]
    # The id lets the script keep it open across updates.
    return tag(
        "details",
        tag("summary", "what was measured"),
        tag("dl", tag("div", tag("dt", "node id"), tag("dd", case.fullname)), *pairs),
        id=f"facts-{case.fullname}",
    )


def _quantiles(case: CaseView) -> dict[str, float | None]:
    return {"p50": case.p50_s, "p95": case.p95_s, "p99": case.p99_s}


def _quantile(key: str, value_s: float | None) -> str:
    """Return the value, or the number of values it would have taken."""
    if value_s is None:
        return f"n<{samples_needed(QUANTILES[key])}"
    return format_duration(value_s)


def _rate(per_s: float | None) -> str:
    return "-" if per_s is None else format_rate(per_s)


def _shown_fact(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
