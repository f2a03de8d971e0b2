"""The verdicts as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.reports.columns import Column, Row, styled, terminal_width, text_table
from harness.reports.verdict.words import (
    case_line,
    change_text,
    interval_text,
    method_line,
    said_cases,
    shown_metrics,
    summary_line,
    threshold_text,
    value_text,
)

if TYPE_CHECKING:
    from harness.reports.verdict.model import Comparison

_WIDTH_MIN, _WIDTH_MAX = 124, 160
_COLUMNS = (
    Column("case", fold_min=30),
    Column("metric"),
    *(
        Column(heading, right=True)
        for heading in ("baseline", "contender", "change", "95 % interval", "matters")
    ),
    Column("verdict"),
)
_STYLES = {"regressed": "bold red", "improved": "green", "inconclusive": "yellow"}


def render_verdicts(comparison: Comparison, *, color: bool) -> str:
    """Return the table of verdicts, then what needs saying about them."""
    parts = []
    judged = comparison.judged
    if judged:
        rows = []
        for case in judged:
            name = case.name.removeprefix("test_")
            for verdict in shown_metrics(case):
                cells = (
                    name,
                    verdict.metric,
                    value_text(verdict, verdict.baseline),
                    value_text(verdict, verdict.contender),
                    change_text(verdict),
                    interval_text(verdict),
                    threshold_text(verdict),
                    verdict.status,
                )
                rows.append(Row(cells, last_style=_STYLES.get(verdict.status, "")))
                name = ""
        width = terminal_width(least=_WIDTH_MIN, most=_WIDTH_MAX)
        parts += [text_table(_COLUMNS, rows, width=width, color=color), "\n"]
    parts += [f"{case_line(case)}\n" for case in said_cases(comparison)]
    parts += [f"{note}\n" for note in comparison.notes]
    if judged:
        parts.append(styled(method_line(comparison), "dim", color=color) + "\n")
    verdict_line = f"VERDICT: {summary_line(comparison)}"
    parts.append(styled(verdict_line, "bold", color=color) + "\n")
    return "".join(parts)
