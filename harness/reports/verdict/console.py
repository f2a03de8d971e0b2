"""The verdicts as a table for a terminal."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

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
_STYLES = {"regressed": "bold red", "improved": "green", "inconclusive": "yellow"}


def render_verdicts(comparison: Comparison, *, color: bool) -> str:
    """Return the table of verdicts, then what needs saying about them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = min(max(shutil.get_terminal_size().columns, _WIDTH_MIN), _WIDTH_MAX)
    console = Console(
        file=io.StringIO(),
        force_terminal=color,
        color_system="standard" if color else None,
        width=width,
        highlight=False,
    )
    judged = comparison.judged
    if judged:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("case", overflow="fold", min_width=30)
        table.add_column("metric")
        for heading in ("baseline", "contender", "change", "95 % interval", "matters"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        for case in judged:
            name = case.name.removeprefix("test_")
            for verdict in shown_metrics(case):
                table.add_row(
                    # Text, not markup: a test id may hold square brackets.
                    Text(name),
                    verdict.metric,
                    value_text(verdict, verdict.baseline),
                    value_text(verdict, verdict.contender),
                    change_text(verdict),
                    interval_text(verdict),
                    threshold_text(verdict),
                    Text(verdict.status, style=_STYLES.get(verdict.status, "")),
                )
                name = ""
        console.print(table)
        console.print()
    for case in said_cases(comparison):
        console.print(Text(case_line(case)), soft_wrap=True)
    for note in comparison.notes:
        console.print(Text(note), soft_wrap=True)
    if judged:
        console.print(Text(method_line(comparison), style="dim"), soft_wrap=True)
    console.print(Text(f"VERDICT: {summary_line(comparison)}", style="bold"))
    assert isinstance(console.file, io.StringIO)  # noqa: S101  # made above
    return console.file.getvalue()
