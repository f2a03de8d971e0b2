"""The page as a whole: one file that shows a run, and what changed since another."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ReportError
from harness.reports.analysis import load_series
from harness.reports.page.about import doubts_section, provenance_section
from harness.reports.page.history import history_section
from harness.reports.page.levels import levels_section
from harness.reports.page.markup import document, tag
from harness.reports.page.results import Drawings, group_sections
from harness.reports.page.verdicts import badge, headline, verdict_section
from harness.reports.page.view import views_of
from harness.reports.verdict.model import CASE_STATUSES
from harness.reports.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.history.model import History
    from harness.reports.page.view import CaseView
    from harness.reports.store import SavedReport
    from harness.reports.verdict.model import Comparison

_STYLE = Path(__file__).with_name("page.css")


def render_page(
    contender: SavedReport,
    *,
    baseline: SavedReport | None = None,
    comparison: Comparison | None = None,
    history: History | None = None,
) -> str:
    """Return the page: HTML that loads nothing and runs no script.

    Args:
        contender: The run to show, made safe by `read_report`.
        baseline: The run whose figures stand beside it.
        comparison: The verdicts; None without a baseline.
        history: The nights before; None to leave them out.
    """
    views = views_of(contender)
    before = {v.fullname: v for v in views_of(baseline)} if baseline else {}
    series = load_series(views)
    drawings = Drawings()
    # First: a change over time is what a reader must not miss for want of room.
    nights = (
        history_section(history, {v.fullname for v in views}, drawings)
        if history
        else None
    )
    groups = group_sections(views, before, series, drawings)
    left_out = (
        tag(
            "p",
            f"{drawings.left_out} charts were left out to keep this page small; make a "
            "page of fewer cases to see them.",
            class_="legend",
        )
        if drawings.left_out
        else None
    )
    sides = [(f"This run: {contender.label}", contender)]
    if baseline is not None:
        sides.append((f"Baseline: {baseline.label}", baseline))
    sections: list[Element | None] = [
        verdict_section(comparison) if comparison else None,
        tag("section", tag("h2", "Results", id="results"), left_out, *groups),
        nights,
        levels_section(series),
        doubts_section(views, contender),
        provenance_section(sides),
    ]
    shown = [section for section in sections if section is not None]
    title = f"lakegauge report {contender.label}"
    style = _STYLE.read_text(encoding="utf8")
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_policy(style)),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", title),
            tag("link", rel="icon", href="data:,"),
            tag("style", style),
        ),
        tag(
            "body",
            tag("a", "Skip to the report", href="#report", class_="skip"),
            tag("header", *_head(contender, comparison, views)),
            _contents(shown),
            tag("main", *shown, id="report", tabindex="-1"),
            tag("footer", "Made by lakegauge. This file loads nothing from elsewhere."),
        ),
        lang="en",
    )
    return document(page)


def write_page(path: Path, text: str) -> None:
    """Write the page.

    Raises:
        ReportError: If it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf8")
    except OSError as error:
        msg = f"the page {path} cannot be written: {error.strerror}"
        raise ReportError(msg) from None


def _policy(style: str) -> str:
    """Allow this style sheet and nothing else: no script, no request, no form."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(
    contender: SavedReport, comparison: Comparison | None, views: Sequence[CaseView]
) -> list[Element | None]:
    run = contender.run
    failed = len(run.failed) if run else 0
    doubted = sum(bool(view.block and view.block.doubts) for view in views)
    if comparison is not None:
        sentence = headline(comparison)
        counts = [(s, len(comparison.with_status(s))) for s in CASE_STATUSES]
        tiles = [(badge(status), str(n)) for status, n in counts if n]
    else:
        sentence = f"{counted(len(views), 'case')} measured"
        tiles = []
    plain = [("cases measured", len(views)), ("without a result", failed)]
    plain.append(("in doubt", doubted))
    tiles += [(tag("span", text), str(n)) for text, n in plain if n]
    one_a_side = comparison is not None and (
        len(comparison.baseline) == len(comparison.contender) == 1
    )
    return [
        tag("p", "lakegauge", class_="brand"),
        tag("h1", sentence),
        tag(
            "p",
            f"Run {contender.label}, {_moment(contender)}",
            ". One run a side: only failures and tenfold changes stand out of noise."
            if one_a_side
            else ("." if comparison else ", without a baseline."),
            class_="lead",
        ),
        tag("p", "Smoke values: no figure here is a measurement.", class_="warn")
        if run is not None and run.smoke
        else None,
        tag(
            "dl",
            *(tag("div", tag("dt", what), tag("dd", n)) for what, n in tiles),
            class_="tiles",
        ),
    ]


def _moment(report: SavedReport) -> str:
    return str(report.data.get("datetime") or "at an unknown time")[:16].replace(
        "T", " "
    )


def _contents(sections: Sequence[Element]) -> Element:
    entries = []
    for section in sections:
        heading = section.find("h2")
        if heading is None:
            continue
        inner = [
            tag("li", tag("a", group.text or "", href=f"#{group.get('id')}"))
            for group in section.iterfind("section/h3")
        ]
        link = tag("a", heading.text or "", href=f"#{heading.get('id')}")
        entries.append(tag("li", link, tag("ul", *inner) if inner else None))
    return tag("nav", tag("ul", *entries), aria_label="Contents")
