"""The commands about saved reports: what changed, and how sure that is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer
from typer.core import TyperCommand

from harness.errors import ReportError

if TYPE_CHECKING:
    from harness.reports.store import SavedReport
    from harness.reports.verdict.model import Comparison
    from harness.reports.verdict.thresholds import ThresholdRule

Reports = Annotated[
    Path | None,
    typer.Option(
        "--reports",
        exists=True,
        file_okay=False,
        help="Folder of saved reports; default: reports/ of this project.",
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        dir_okay=False,
        help="Also write the verdicts to this file; its suffix names the form: .json, "
        ".csv, .md (CI summary) or .xml (JUnit). May be given several times.",
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="Cases that only the baseline has may pass."),
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Exit code 3 if anything could not be settled."),
]

# Stands for `--` between the sides: click drops it before a command sees it.
_BETWEEN = "\0--"


class _TwoSides(TyperCommand):
    """A command whose arguments are two lists with `--` between them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_BETWEEN if a == "--" else a for a in args])


class Judging(TypedDict):
    """What the settings say about verdicts; see `compare_runs`."""

    rules: tuple[ThresholdRule, ...]
    guard: bool


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the console command."""
    app.command(cls=_TwoSides)(compare)


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE... -- CONTENDER",
            help="Numbers, ranges such as 0003..0014, names, paths or folders. Two "
            "words without -- are one run a side.",
        ),
    ],
    *,
    reports: Reports = None,
    output: Outputs = None,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
) -> None:
    """Say which cases regressed, improved, stayed equivalent, or cannot be told.

    One process run is one observation. The change is the Hodges-Lehmann estimate of
    contender / baseline with an exact interval of 95 % (Student's t below 8 pairs);
    a case regressed if the interval lies beyond its threshold and Holm's rule over
    all cases agrees. With one run a side there is no interval, and only errors and
    tenfold changes are gated.

    Exit code 0: nothing regressed. 1: a case regressed, failed, or is missing (or
    probably renamed). 2: a report cannot be found or read, the sides must not be
    compared (the reasons are named), or they have no case in common. 3: with --strict,
    a case is inconclusive, invalid or not comparable.
    """
    from harness.reports.experiments.known_rates import with_known_rates
    from harness.reports.verdict.judge import compare_runs
    from harness.reports.verdict.outputs import check_outputs, write_outputs
    from harness.reports.verdict.reading import find_reports, read_report, run_of
    from harness.reports.verdict.words import side_line

    check_outputs(output or [])
    folder = reports_folder(reports)
    before, after = _sides(runs)
    old = [read_report(path) for path in find_reports(before, folder)]
    new = [read_report(path) for path in find_reports(after, folder)]
    comparison = compare_runs(
        [run_of(report) for report in old],
        [run_of(report) for report in new],
        **judging(),
    )
    comparison = with_known_rates(comparison, folder)
    for side, about in (
        ("baseline", comparison.baseline),
        ("contender", comparison.contender),
    ):
        typer.echo(f"{side}: {side_line(about)}")
    typer.echo()
    if len(old) == len(new) == 1:
        _print_runs(old[0], new[0], {case.fullname for case in comparison.judged})
    show(comparison)
    write_outputs(comparison, output or [], allow_missing=allow_missing, strict=strict)
    if not comparison.judged:
        msg = "nothing compared: the sides share no comparable case"
        raise ReportError(msg)
    code = comparison.exit_code(allow_missing=allow_missing, strict=strict)
    if code:
        raise typer.Exit(code)


def show(comparison: Comparison) -> None:
    """Print the table of verdicts."""
    from harness.reports.verdict.console import render_verdicts

    typer.echo(render_verdicts(comparison, color=sys.stdout.isatty()).rstrip())


def judging() -> Judging:
    """Return how the settings want verdicts to be made.

    Raises:
        ConfigError: If one is misspelt.
    """
    from harness.reports.verdict.thresholds import parse_thresholds
    from harness.settings import load_settings

    wanted = load_settings(check=False).verdict
    return Judging(
        rules=parse_thresholds(wanted.thresholds or "", source="LAKEGAUGE_THRESHOLDS"),
        guard=wanted.environment_guard == "downgrade",
    )


def reports_folder(named: Path | None) -> Path:
    """Return the named folder, or the one pytest saves to by default."""
    from harness.settings.files import project_root

    cwd = Path.cwd()
    return (named or (project_root(cwd) or cwd) / "reports").absolute()


def _sides(words: list[str]) -> tuple[list[str], list[str]]:
    if words.count(_BETWEEN) == 1:
        between = words.index(_BETWEEN)
        return words[:between], words[between + 1 :]
    if len(words) == 2 and _BETWEEN not in words:  # noqa: PLR2004  # one run a side
        return words[:1], words[1:]
    msg = "name the two sides: compare BASELINE... -- CONTENDER..."
    raise typer.BadParameter(msg)


def _print_runs(old: SavedReport, new: SavedReport, judged: set[str]) -> None:
    """Print one run beside the other: with one a side, the numbers are the news.

    Those of a case that could not be judged may be no numbers at all.
    """
    from harness.reports.compare import compare_records
    from harness.reports.table import render

    comparisons = compare_records(
        old.records,
        new.records,
        failed=new.run.failed if new.run else {},
        expected=old.records,
    )
    shown = [c for c in comparisons if c.status == "compared" and c.fullname in judged]
    if shown:
        table = render(shown, baseline_label=old.label, color=sys.stdout.isatty())
        typer.echo(table.rstrip() + "\n")
