"""The commands that make runs: `ab` and `calibrate`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError, ReportError
from harness.reports.cli import (
    AllowMissing,
    Outputs,
    Reports,
    Strict,
    judging,
    reports_folder,
    show,
)
from harness.reports.wording import counted

if TYPE_CHECKING:
    from types import TracebackType

    from harness.reports.experiments.schedule import Pair, Schedule

DEFAULT_CASES = ("benchmarks",)
Interleave = Annotated[
    str,
    typer.Option(
        metavar="auto|cases|runs",
        help="cases: the runs that belong together take turns case by case, only one "
        "working at a time. runs: one whole run after the other. auto: cases, unless "
        "they would share a server.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the console command."""
    # A side such as --pool=queue looks like an option; it is none of ours.
    app.command(context_settings={"ignore_unknown_options": True})(ab)
    app.command()(calibrate)


class TerminalProgress:
    """A bar on a terminal, a line per pair elsewhere; always on standard error."""

    def __init__(self, schedule: Schedule) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._count = len(schedule.pairs)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[estimate]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "starting", total=2 * self._count, estimate="", start=True
        )
        self._lines = not console.is_terminal

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def started(self, pair: Pair) -> None:
        """Show which pair begins."""
        self._bar.update(
            self._task,
            completed=2 * pair.index,
            description=f"pair {pair.index + 1}/{self._count} {pair.order}",
        )

    def estimated(self, pairs_done: int, change: float | None) -> None:
        """Show the estimate so far, named as what it is."""
        shown = "nothing measured" if change is None else f"{change:+.1%} so far"
        text = f"B against A: {shown} (an estimate, no verdict)"
        self._bar.update(self._task, completed=2 * pairs_done, estimate=text)
        if self._lines:
            typer.echo(f"pair {pairs_done} of {self._count}: {text}", err=True)


def ab(  # a command's options are its interface
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="Baseline: a git revision (. is the working tree), a virtual "
            "environment, pytest options such as --pool=queue, or NAME=value.",
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Contender, likewise.")],
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASES", help="What pytest runs; default: benchmarks."),
    ] = None,
    *,
    pairs: Annotated[
        int, typer.Option(help="Pairs of runs before the first look.")
    ] = 12,
    until: Annotated[
        int | None,
        typer.Option(
            help="Go on to at most so many pairs while a case is inconclusive. The "
            "level is shared out among the looks beforehand."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the order of the runs; default: the time.")
    ] = None,
    pytest_args: Annotated[
        str, typer.Option("--pytest-args", help="Further arguments for both sides.")
    ] = "",
    interleave: Interleave = "auto",
    reports: Reports = None,
    output: Outputs = None,
    allow_missing: AllowMissing = False,
    strict: Strict = False,
) -> None:
    """Run two variants against each other, and say what differs.

    Both are built first. Then pairs of fresh processes run, taking turns case by case
    in an order left to chance, with one PYTHONHASHSEED for both of its runs. When it
    ends is declared before the first run and written into plan.json.

    Exit codes as of `lakegauge compare`.
    """
    import shlex

    from harness.reports.experiments.ab import Experiment, run_experiment
    from harness.reports.experiments.building import built
    from harness.reports.experiments.interleaving import takes_turns
    from harness.reports.experiments.known_rates import with_known_rates
    from harness.reports.experiments.schedule import make_schedule
    from harness.reports.experiments.variants import variant_of
    from harness.reports.verdict.outputs import check_outputs, write_outputs
    from harness.settings.files import project_root

    check_outputs(output or [])
    how = judging()
    now = SYSTEM_CLOCK.now()
    drawn = int(now.timestamp()) if seed is None else seed
    schedule = make_schedule(pairs=pairs, pairs_max=until, seed=drawn)
    variants = (variant_of(a), variant_of(b))
    cwd = Path.cwd()
    root = project_root(cwd) or cwd
    name = f"{now:%Y%m%d_%H%M%S}"
    folder = reports_folder(reports) / "ab" / name
    with (
        tempfile.TemporaryDirectory(prefix="lakegauge-ab-") as scratch,
        built(variants, root=root, scratch=Path(scratch), say=_say) as sides,
    ):
        by_case, reason = takes_turns(interleave, (a, b, pytest_args), sides)
        experiment = Experiment(
            name=name,
            folder=folder,
            sides=sides,
            cases=tuple(cases or DEFAULT_CASES),
            options=tuple(shlex.split(pytest_args)),
            schedule=schedule,
            by_case=by_case,
        )
        how_paired = "case by case" if by_case else f"whole runs: {reason}"
        _say(f"A: {a}; B: {b}; {schedule.rule}; {how_paired}; reports in {folder}")
        with TerminalProgress(schedule) as progress:
            comparison = run_experiment(experiment, progress=progress, **how)
    comparison = with_known_rates(comparison, reports_folder(reports))
    show(comparison)
    write_outputs(comparison, output or [], allow_missing=allow_missing, strict=strict)
    code = comparison.exit_code(allow_missing=allow_missing, strict=strict)
    if code:
        raise typer.Exit(code)


def calibrate(  # a command's options are its interface
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASES", help="What pytest runs; default: benchmarks."),
    ] = None,
    *,
    blocks: Annotated[
        int, typer.Option(help="Blocks of runs: two as they are, one per slowdown.")
    ] = 24,
    pairs: Annotated[
        int, typer.Option(help="Pairs of the gate that is tried, as in ab.")
    ] = 12,
    slowdowns: Annotated[
        str, typer.Option(help="Changes that the gate should see.")
    ] = "5%,10%",
    draws: Annotated[int, typer.Option(help="Comparisons drawn per figure.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the orders and the drawing.")] = 1,
    again: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Only reckon anew from these runs."
        ),
    ] = None,
    pytest_args: Annotated[
        str, typer.Option("--pytest-args", help="Further arguments for every run.")
    ] = "",
    interleave: Interleave = "auto",
    reports: Reports = None,
) -> None:
    """Measure the gate itself on this machine: its false alarms and its power.

    Runs the cases as they are and with injected slowdowns, in blocks of fresh
    processes, then draws comparisons from them and asks the very gate that compare and
    ab use. What it finds is kept in rates.json beside the runs, and later verdicts on
    this machine name it.
    Thresholds are proposed where it cries wolf in more than 1 % of comparisons.

    Exit code 0 once it is measured; 2 if a run or a setting fails.
    """
    import shlex

    from harness.reports.experiments import calibrating
    from harness.reports.experiments.building import Built
    from harness.reports.experiments.interleaving import takes_turns
    from harness.reports.experiments.rates import gate_rates
    from harness.reports.experiments.variants import variant_of
    from harness.settings.files import project_root

    shares = calibrating.parse_slowdowns(slowdowns)
    how = judging()
    if not 1 <= pairs <= blocks:
        msg = f"--pairs must be from 1 to --blocks={blocks}, got {pairs}"
        raise ConfigError(msg)
    cwd, now = Path.cwd(), SYSTEM_CLOCK.now()
    folder = reports_folder(reports)
    selection = tuple(cases or DEFAULT_CASES)
    if again is None:
        side = Built(
            variant=variant_of("."),
            python=Path(sys.executable),
            folder=project_root(cwd) or cwd,
        )
        # The working tree is this very lakegauge, though it has no revision's name.
        by_case, _ = takes_turns(interleave, (pytest_args,), ())
        trial = calibrating.Trial(
            side=side,
            folder=folder / "calibrate" / f"{now:%Y%m%d_%H%M%S}",
            cases=selection,
            options=tuple(shlex.split(pytest_args)),
            blocks=blocks,
            slowdowns=shares,
            seed=seed,
            by_case=by_case,
        )
        _say(f"{counted(blocks, 'block')} of {2 + len(shares)} runs in {trial.folder}")
        home = trial.folder
        measured = calibrating.measure_blocks(
            trial, say=lambda n: _say(f"block {n + 1} of {blocks}")
        )
    else:
        home = again
        measured = calibrating.read_blocks(again, shares)
    if len(measured) < pairs:
        msg = f"{len(measured)} whole blocks, {pairs} are needed: --pairs"
        raise ReportError(msg)
    rates = gate_rates(measured, pairs=pairs, draws=draws, seed=seed, **how)
    for line in calibrating.rates_lines(rates):
        typer.echo(line)
    path = calibrating.write_calibration(
        rates,
        folder=home,
        machine_info=measured[0].same[0].machine_info,
        measured_at=now,
        cases=selection,
    )
    _say(f"kept in {path}")


def _say(text: Any) -> None:
    typer.echo(text, err=True)
    sys.stderr.flush()
