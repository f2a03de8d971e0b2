"""The analyser's part of the page, and its table as CSV and Markdown.

Columns are those that users of the older scripts know, computed from what was measured.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from harness.reports.page.axes import count_text, duration_text, figure_text
from harness.reports.page.markup import tag
from harness.reports.page.verdicts import scroller
from harness.reports.page.view import cut
from harness.reports.verdict.outputs import markdown_text, spreadsheet_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from harness.reports.analysis import LoadLevel, LoadSeries

COLUMNS = (
    "case",
    "threads",
    "throughput_ops_sec",
    "total_operations",
    "total_operations_attempted",
    "avg_latency_ms",
    "p95_latency_ms",
    "p99_latency_ms",
    "error_count",
    "connection_error_count",
    "error_rate_pct",
    "duration_sec",
    "timestamp",
    "efficiency_score",
    "reliability_score",
    "performance_score",
    "sweet_spot",
    "knee",
)
_SCORE = (
    "performance_score: 0 to 100 within a series: share of its best throughput, times "
    "its best p99 by this p99, times the share that succeeded"
)
_KNEE = (
    "knee: most throughput per median response time (Kleinrock's power), from three "
    "levels on"
)
MEANINGS = (
    "efficiency_score: completed operations per second and concurrent caller",
    "reliability_score: percent of operations that succeeded",
    _SCORE,
    "sweet_spot: highest throughput of the levels at which nothing failed",
    _KNEE,
    "latency: response time from the intended start",
)


def rows_of(series: Sequence[LoadSeries], *, timestamp: str) -> list[dict[str, object]]:
    """Return one row per level under the originals' names; absent figures are ""."""
    rows = []
    for found in series:
        for level in found.levels:
            performance = found.performance(level)
            # One level is no choice.
            is_series = len(found.levels) > 1
            values: tuple[object, ...] = (
                level.name,
                level.threads if level.threads is not None else "",
                round(level.throughput_per_s, 3),
                level.completed,
                level.attempted,
                _ms(level.mean_s),
                _ms(level.p95_s),
                _ms(level.p99_s),
                level.errors_count,
                level.connection_errors_count,
                round(100 * level.error_rate, 4),
                "" if level.wall_s is None else round(level.wall_s, 3),
                timestamp,
                "" if level.efficiency is None else round(level.efficiency, 3),
                round(level.reliability, 4),
                "" if performance is None or not is_series else round(performance, 2),
                is_series and level is found.sweet_spot,
                level is found.knee,
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _ms(seconds: float | None) -> float | str:
    return "" if seconds is None else round(seconds * 1e3, 4)


def levels_csv(series: Sequence[LoadSeries], *, timestamp: str) -> str:
    """Return the table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows_of(series, timestamp=timestamp):
        writer.writerow(
            [spreadsheet_cell(v) if isinstance(v, str) else v for v in row.values()]
        )
    return text.getvalue()


def levels_markdown(series: Sequence[LoadSeries], *, timestamp: str) -> str:
    """Return the table as Markdown, with what it says in sentences."""
    lines = ["# Load analysis", ""]
    lines += [f"- {markdown_text(line)}" for line in findings(series)]
    lines += ["", f"| {' | '.join(COLUMNS)} |"]
    lines.append(f"| --- |{' ---: |' * (len(COLUMNS) - 1)}")
    for row in rows_of(series, timestamp=timestamp):
        cells = [markdown_text(str(value)) for value in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {markdown_text(meaning)}" for meaning in MEANINGS)]
    return "\n".join(lines) + "\n"


def findings(series: Sequence[LoadSeries]) -> list[str]:
    """Say of each series where its sweet spot and its knee are."""
    lines = []
    for found in series:
        if len(found.levels) < 2:  # noqa: PLR2004  # one level is no choice
            continue
        best, knee = found.sweet_spot, found.knee
        spot = (
            f"sweet spot {found.varied} {best.level:g} "
            f"({count_text(best.throughput_per_s)}/s without errors)"
            if best
            else "no sweet spot: operations failed at every level"
        )
        bend = (
            f"knee at {found.varied} {knee.level:g} "
            f"({count_text(knee.throughput_per_s)}/s, p50 {duration_text(knee.p50_s)})"
            if knee
            else "no knee within these levels"
        )
        edge = (
            "; the best level is the last one measured, so more may be possible"
            if best is not None and best is found.levels[-1]
            else ""
        )
        lines.append(f"{cut(found.name, 120)}: {spot}; {bend}{edge}")
    return lines


def levels_section(series: Sequence[LoadSeries]) -> Element | None:
    """Return the section, or None where nothing was put under load."""
    if not series:
        return None
    heads = (
        *("threads", "throughput", "mean", "p95", "p99", "failed", "per thread"),
        *("succeeded", "score"),
    )
    rows = [_row(found, level) for found in series for level in found.levels]
    return tag(
        "section",
        tag("h2", "Load analysis", id="analysis"),
        tag("ul", *(tag("li", line) for line in findings(series)), class_="notes"),
        scroller(
            tag(
                "table",
                tag("caption", "Levels of load", class_="unseen"),
                tag(
                    "thead",
                    tag(
                        "tr",
                        tag("th", "case", scope="col"),
                        *(tag("th", h, scope="col", class_="num") for h in heads),
                    ),
                ),
                tag("tbody", *rows),
                class_="levels",
            ),
            label="Levels of load",
        ),
        tag(
            "details",
            tag("summary", "What the columns mean"),
            tag("ul", *(tag("li", text) for text in MEANINGS), class_="notes"),
        ),
    )


def _row(found: LoadSeries, level: LoadLevel) -> Element:
    performance = found.performance(level) if len(found.levels) > 1 else None
    dash = "–"  # noqa: RUF001  # for "does not apply"
    cells = (
        dash if level.threads is None else str(level.threads),
        f"{count_text(level.throughput_per_s)}/s",
        *(
            dash if value is None else figure_text(value)
            for value in (level.mean_s, level.p95_s, level.p99_s)
        ),
        f"{level.errors_count:,}",
        dash if level.efficiency is None else f"{count_text(level.efficiency)}/s",
        f"{level.reliability:.4g} %",
        dash if performance is None else f"{performance:.0f}",
    )
    marks = []
    if len(found.levels) > 1 and level is found.sweet_spot:
        marks.append(tag("span", "sweet spot", class_="badge is-improved"))
    if level is found.knee:
        marks.append(tag("span", "knee", class_="badge"))
    return tag(
        "tr",
        tag("th", tag("span", level.name, class_="name"), *marks, scope="row"),
        *(tag("td", text, class_="num") for text in cells),
    )
