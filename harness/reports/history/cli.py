"""The commands over time: `history`, and the nightly run that feeds it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.clock import SYSTEM_CLOCK
from harness.errors import ReportError
from harness.reports.cli import (
    AllowMissing,
    Outputs,
    Reports,
    Strict,
    judging,
    reports_folder,
    show,
)

if TYPE_CHECKING:
    from harness.reports.history.model import History

EXIT_OPEN = 1
# Reading this many changed reports takes long enough to say so.
_SAID_FROM = 200


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the console command."""
    app.command()(history)
    app.command()(nightly)


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

    Exit code 0: no open regression. 1: a case got slower, at once or slowly, and nobody
    acknowledged it.
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
        from harness.reports.wording import counted

        added = acknowledgements_of(found, reason=acknowledge)
        path = add_acknowledgements(folder, added)
        typer.echo(f"{counted(len(added), 'change')} acknowledged in {path}")
        return
    _show(found, as_json=as_json, lines=history_lines(found))
    if found.open_changes() or found.open_drifts:
        raise typer.Exit(EXIT_OPEN)


def nightly(  # a command's options are its interface
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASES", help="What pytest runs; default: benchmarks."),
    ] = None,
    *,
    runs: Annotated[
        int, typer.Option(min=1, help="Fresh processes: the more, the less noise.")
    ] = 3,
    summary: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Append a Markdown summary to this file (CI)."
        ),
    ] = None,
    pytest_args: Annotated[
        str, typer.Option("--pytest-args", help="Further arguments for every run.")
    ] = "",
    reports: Reports = None,
    output: Outputs = None,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
) -> None:
    """Measure, keep the reports, compare with the nights before, look at the history.

    The same as the nightly workflow, as one local command. The baseline is the newest
    comparable runs of earlier nights; those that are stale or not comparable are passed
    over by name, never used silently.

    Exit codes as of `lakegauge compare`, and 1 as well for a regression of the last 14
    days in the history that nobody acknowledged. 0 in the first night.
    """
    import shlex
    import sys

    from harness.reports.experiments.building import Built
    from harness.reports.experiments.variants import variant_of
    from harness.reports.nightly import judge_night, measure_night, night_markdown
    from harness.reports.verdict.outputs import check_outputs, write_outputs
    from harness.settings import load_settings
    from harness.settings.files import project_root

    check_outputs(output or [])
    how = judging()
    age_days = load_settings(check=False).verdict.baseline_age_days
    cwd, now = Path.cwd(), SYSTEM_CLOCK.now()
    folder = reports_folder(reports)
    kept = measure_night(
        Built(
            variant=variant_of("."),
            python=Path(sys.executable),
            folder=project_root(cwd) or cwd,
        ),
        tuple(cases or ("benchmarks",)),
        folder=folder,
        runs=runs,
        options=tuple(shlex.split(pytest_args)),
        say=lambda text: typer.echo(text, err=True),
        seed=int(now.timestamp()),
    )
    night = judge_night(kept, folder=folder, age_days=age_days, **how)
    for line in night.notes:
        typer.echo(line)
    if night.comparison is not None:
        show(night.comparison)
        write_outputs(
            night.comparison,
            output or [],
            allow_missing=allow_missing,
            strict=strict,
        )
    for line in (*night.news, *night.drifts):
        typer.echo(line)
    if summary is not None:
        with summary.open("a", encoding="utf8") as file:
            file.write(night_markdown(night))
    code = night.exit_code(allow_missing=allow_missing, strict=strict)
    if code:
        raise typer.Exit(code)


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
