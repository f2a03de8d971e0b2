"""The commands that turn saved reports into a page or a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import ReportError
from harness.reports.cli import Reports, judging, reports_folder

if TYPE_CHECKING:
    from harness.reports.store import SavedReport

app = typer.Typer(no_args_is_help=True)

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Numbers, ranges such as 0003..0014, names, paths or folders.",
    ),
]


def add_commands(parent: typer.Typer) -> None:
    """Add the commands to the console command."""
    parent.add_typer(
        app, name="report", help="Make a page or a table of saved reports."
    )


@app.command("html")
def html(
    runs: Runs,
    *,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            "-b",
            help="Runs to hold these against, as in `lakegauge compare`; may be given "
            "several times.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            help="The file to write; default: lakegauge-RUN.html here.",
        ),
    ] = None,
    with_history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history",
            help="Show these cases in all reports of the folder, night by night.",
        ),
    ] = True,
    reports: Reports = None,
) -> None:
    """Write one self-contained HTML page: verdicts, charts, doubts, provenance.

    It loads nothing from elsewhere and needs no script. With several runs the verdict
    is of all of them, the figures are those of the newest. Exit code 0, or 2 if a
    report cannot be found or read, or the page cannot be written.
    """
    from harness.reports.history.analysis import history_of
    from harness.reports.page.page import render_page, write_page
    from harness.reports.verdict.judge import compare_runs
    from harness.reports.verdict.reading import run_of

    folder = reports_folder(reports)
    new = _read(runs, folder)
    old = _read(baseline or [], folder)
    comparison = None
    if old:
        comparison = compare_runs(
            [run_of(report) for report in old],
            [run_of(report) for report in new],
            **judging(),
        )
    path = output or Path(f"lakegauge-{new[-1].path.stem}.html")
    page = render_page(
        new[-1],
        baseline=old[-1] if old else None,
        comparison=comparison,
        history=history_of(folder) if with_history else None,
    )
    write_page(path, page)
    typer.echo(f"written: {path} ({len(page.encode()) / 1e6:.2f} MB)")


@app.command("levels")
def levels(
    run: Annotated[str, typer.Argument(help="A number, name or path.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            dir_okay=False,
            help="A .csv or .md file; default: Markdown to the terminal.",
        ),
    ] = None,
    reports: Reports = None,
) -> None:
    """Analyse the load cases of a run: efficiency, reliability, sweet spot, knee.

    The columns are those of the older benchmark scripts (threads, throughput_ops_sec,
    p99_latency_ms, ...); every score is computed from the measurements.
    """
    from harness.reports.analysis import load_series
    from harness.reports.page.levels import levels_csv, levels_markdown
    from harness.reports.page.page import write_page
    from harness.reports.page.view import views_of

    forms = {".csv": levels_csv, ".md": levels_markdown}
    if output is not None and output.suffix not in forms:
        msg = f"--output {output}: the name must end in one of {', '.join(forms)}"
        raise ReportError(msg)
    report = _read([run], reports_folder(reports))[-1]
    series = load_series(views_of(report))
    if not series:
        msg = f"{report.path.name} holds no case under load"
        raise ReportError(msg)
    form = forms[output.suffix if output else ".md"]
    text = form(series, timestamp=str(report.data.get("datetime") or ""))
    if output is None:
        typer.echo(text.rstrip())
        return
    write_page(output, text)
    typer.echo(f"written: {output}")


def _read(words: list[str], folder: Path) -> list[SavedReport]:
    from harness.reports.verdict.reading import find_reports, read_report

    return [read_report(path) for path in find_reports(words, folder)]
