"""The commands over time: `history`, and the nightly run that feeds it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import ReportError
from harness.reports.cli import Reports, reports_folder

if TYPE_CHECKING:
    from harness.reports.history.model import History

EXIT_OPEN = 1
# Reading this many changed reports takes long enough to say so.
_SAID_FROM = 200


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the console command."""
    app.command()(history)


def history(
    case: Annotated[
        str, typer.Argument(help="Only cases with this in their node id.")
    ] = "",
    *,
    reports: Reports = None,
    acknowledge: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Close the open changes that are listed, for this reason.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show where saved reports changed their level: by how much, when, which commits.

    Runs of one commit and day are one point. Only nights comparable with the newest
    count (same machine, sizes and facts); the others are counted and left out.

    Exit code 0: no open regression. 1: a case got slower and nobody acknowledged it.
    2: there is no report, or a file is damaged.
    """
    from harness.reports.history.analysis import history_of
    from harness.reports.history.words import acknowledgements_of, history_lines

    folder = reports_folder(reports)
    found = history_of(folder, wanted=case, say=_say_progress)
    if not found.series:
        about = f" of a case with {case!r} in its name" if case else ""
        msg = f"{folder} holds no report{about} that can be read"
        raise ReportError("; ".join((msg, *found.notes[:3])))
    if acknowledge is not None:
        from harness.reports.history.acknowledged import add_acknowledgements

        added = acknowledgements_of(found, reason=acknowledge)
        path = add_acknowledgements(folder, added)
        typer.echo(f"{len(added)} changes acknowledged in {path}")
        return
    _show(found, as_json=as_json, lines=history_lines(found))
    if found.open_changes():
        raise typer.Exit(EXIT_OPEN)


def _show(found: History, *, as_json: bool, lines: list[str]) -> None:
    if as_json:
        document = {"schema_version": 1, **asdict(found)}
        typer.echo(json.dumps(document, indent=1, default=str, allow_nan=False))
        return
    for line in lines:
        typer.echo(line)


def _say_progress(done: int, count: int) -> None:
    if count >= _SAID_FROM and done % _SAID_FROM == 0:
        typer.echo(f"reading report {done + 1:,} of {count:,}", err=True)
