"""The console command `lakegauge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from harness.agents.cli import app as agent_app
from harness.errors import ConfigError, HarnessError
from harness.lakebase.standin import cli as standin_cli
from harness.reports import cli as reports_cli
from harness.reports.cli import Reports, reports_folder
from harness.reports.experiments import cli as experiments_cli
from harness.reports.history import cli as history_cli
from harness.reports.page import cli as page_cli
from harness.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_MISSING = 1
EXIT_INVALID = 2


class _Commands(TyperGroup):
    """Shows our errors as their message: they are written for the terminal."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            message = str(error)
        typer.echo(f"lakegauge: {message}", err=True)
        raise typer.Exit(EXIT_INVALID)


app = typer.Typer(
    name="lakegauge",
    cls=_Commands,
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(no_args_is_help=True)
app.add_typer(
    config_app, name="config", help="Show the settings and where they come from."
)
app.add_typer(
    agent_app, name="agent", help="Ask, await, record or stand in for an agent."
)
monitor_app = typer.Typer(no_args_is_help=True)
app.add_typer(monitor_app, name="monitor", help="Watch runs in a browser.")

reports_cli.add_commands(app)
experiments_cli.add_commands(app)
page_cli.add_commands(app)
standin_cli.add_commands(app)
history_cli.add_commands(app)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def main() -> None:
    """Benchmarks for Lakebase, Spark/Delta streams and agent endpoints."""
    from harness.settings.logs import configure_logging
    from harness.settings.monitoring import MonitoringSettings

    try:
        monitoring = load_settings(check=False).monitoring
    except ConfigError:
        # The command itself says what is wrong, if it needs the settings at all.
        monitoring = MonitoringSettings()
    configure_logging(monitoring)


@config_app.command("help")
def config_help(
    word: Annotated[
        str | None, typer.Argument(help="Only settings with this in a name.")
    ] = None,
    *,
    as_json: AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables of the documents.")
    ] = False,
) -> None:
    """List every setting: names, value, default and meaning."""
    from harness.settings import display

    infos = display.matching(word)
    if as_json:
        _print_json(display.help_json(infos))
    elif markdown:
        _print(display.help_markdown())
    elif infos:
        _print(display.help_lines(infos))
        _print(display.control_lines())
    else:
        typer.echo(f"lakegauge: no setting has {word!r} in a name", err=True)
        raise typer.Exit(EXIT_INVALID)


@config_app.command("current")
def config_current(*, as_json: AsJson = False) -> None:
    """Print every value and where it came from; secrets are masked."""
    from harness.settings import display

    settings = load_settings(check=False)
    if as_json:
        _print_json({"settings": display.current_json(settings)})
    else:
        _print(display.current_lines(settings))


@config_app.command("show")
def config_show(*, as_json: AsJson = False) -> None:
    """Print every value, the files that were read, and advice.

    Exit code 2 if the advice holds an error.
    """
    from harness.settings import display
    from harness.settings.advice import check_security_status, validate_configuration
    from harness.settings.files import project_root

    settings = load_settings(check=False)
    status = validate_configuration(settings)
    cwd = Path.cwd()
    security = check_security_status(settings, root=project_root(cwd) or cwd)
    files = {layer: str(file) for layer, file in settings.files().items()}
    advice = {
        "error": status.errors,
        "warning": (*status.warnings, *security.issues),
        "recommendation": (*status.recommendations, *security.recommendations),
    }
    if as_json:
        values = display.current_json(settings)
        _print_json({"settings": values, "files": files, "advice": advice})
    else:
        _print(display.current_lines(settings))
        read = [f"{layer}: {file}" for layer, file in files.items()]
        _print(["", "files read:", *(f"  {line}" for line in read or ["none"])])
        lines = [f"  {level}: {t}" for level, texts in advice.items() for t in texts]
        _print(["", "advice:", *(lines or ["  none"])])
    if not status.valid:
        raise typer.Exit(EXIT_INVALID)


@config_app.command("missing")
def config_missing(
    target: Annotated[
        str | None,
        typer.Option(help="auto, dsn, docker, embedded, lakebase, or agent."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print what a target needs and has not got; exit code 1 if there is any."""
    from harness.settings.checks import SUBJECTS, missing_for, workspace_missing

    if target is not None and target not in SUBJECTS:
        msg = f"{target!r} is not one of {', '.join(SUBJECTS)}"
        raise typer.BadParameter(msg, param_hint="--target")
    settings = load_settings(check=False)
    subject = target or settings.target.target
    missing = missing_for(settings, subject)
    if subject == "lakebase":
        missing += workspace_missing(settings)
    if as_json:
        listed = [{"settings": list(m.need), "text": m.text} for m in missing]
        _print_json({"target": subject, "missing": listed})
    elif missing:
        _print([f"{subject} needs:", *(f"  {m.text}" for m in missing)])
    else:
        typer.echo(f"{subject} needs nothing more")
    if missing:
        raise typer.Exit(EXIT_MISSING)


@monitor_app.command("serve")
def monitor_serve(
    *,
    reports: Reports = None,
    host: Annotated[
        str, typer.Option(help="Any but 127.0.0.1, ::1 or localhost needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    database: Annotated[
        bool,
        typer.Option(
            "--database", help="Open the database of the settings and watch it."
        ),
    ] = False,
    replay: Annotated[
        str | None, typer.Option(help="Play a saved report: number, name or path.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=1000)] = 1.0,
    interval: Annotated[
        float, typer.Option(min=0.05, max=60, help="Seconds between two updates.")
    ] = 1.0,
) -> None:
    """Watch the run in progress, saved reports or a database, until Ctrl-C."""
    from contextlib import nullcontext

    from harness.monitor.server import serve

    folder = reports_folder(reports)
    settings = load_settings(check=False)

    def say(url: str) -> None:
        typer.echo(f"{url} shows {folder}; Ctrl-C ends it")

    if database:
        from harness.lakebase.service import LakebaseService

        context: Any = LakebaseService(load_settings())
    else:
        context = nullcontext()
    with context as watched:
        serve(
            folder,
            host=host,
            port=port,
            on_ready=say,
            watched=watched,
            replay=replay,
            speed=speed,
            token=settings.monitoring.monitor_token,
            interval_s=interval,
        )


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))
