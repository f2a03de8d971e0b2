"""The console commands `lakegauge agent ...`."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.settings import load_settings

if TYPE_CHECKING:
    from pydantic import SecretStr

    from harness.agents.client import AgentClient
    from harness.agents.readiness import EndpointState
    from harness.settings import Settings

EXIT_MISSING = 1
GROUPS = ("agent", "databricks")
JWT_PARTS = 3

app = typer.Typer(no_args_is_help=True)
config_app = typer.Typer(no_args_is_help=True)
app.add_typer(config_app, name="config", help="Show how the agent is configured.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@config_app.command("help")
def config_help(*, as_json: AsJson = False) -> None:
    """List every setting of the agent: names, value, default and meaning."""
    from harness.settings import display

    infos = [i for i in display.matching(None) if i.path.split(".")[0] in GROUPS]
    if as_json:
        _print_json(display.help_json(infos))
        return
    for line in display.help_lines(infos):
        typer.echo(line)


@config_app.command("missing")
def config_missing(*, as_json: AsJson = False) -> None:
    """Print which required settings are not set; exit code 1 if there are any."""
    from harness.settings.checks import missing_for

    missing = missing_for(load_settings(check=False), "agent")
    if as_json:
        _print_json([{"settings": list(m.need), "text": m.text} for m in missing])
    elif missing:
        typer.echo("the agent needs:")
        for need in missing:
            typer.echo(f"  {need.text}")
    else:
        typer.echo("the agent needs nothing more")
    if missing:
        raise typer.Exit(EXIT_MISSING)


@config_app.command("current")
def config_current(*, as_json: AsJson = False) -> None:
    """Print every value and where it came from; secrets are masked."""
    from harness.settings import display

    settings = load_settings(check=False)
    told = token_kind(settings.agent.token)
    if as_json:
        values = {
            path: value
            for path, value in display.current_json(settings).items()
            if path.split(".")[0] in GROUPS
        }
        _print_json({"settings": values, "token": told})
        return
    for line in display.current_lines(settings):
        if line.split(".")[0] in GROUPS:
            typer.echo(line)
    typer.echo(f"token: {told}")


@app.command("ready")
def ready(
    *,
    timeout: Annotated[
        float, typer.Option(min=0, help="Longest wait, in seconds; 0 looks once.")
    ] = 0.0,
) -> None:
    """Say whether the endpoint takes questions, waiting for it if asked to.

    Exit code 0 if it does, 1 if it does not (in time), 2 if it cannot be told.
    """
    from harness.agents.errors import AgentNotReadyError
    from harness.agents.readiness import AgentEndpointFailedError

    def show(state: EndpointState, waited_s: float) -> None:
        typer.echo(f"{waited_s:5.0f} s  {state.describe()}")

    with _client(load_settings(check=False)) as client:
        try:
            client.wait_ready(timeout_s=timeout, on_progress=show)
        except (AgentNotReadyError, AgentEndpointFailedError) as error:
            typer.echo(f"lakegauge: {error}", err=True)
            raise typer.Exit(EXIT_MISSING) from None


@app.command("ask")
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    footnotes: Annotated[
        bool, typer.Option(help="Keep footnote marks and definitions.")
    ] = False,
) -> None:
    """Ask the configured endpoint; print the answer, what it cites and its timing."""
    from harness.agents.ask import text_of

    with _client(load_settings(check=False)) as client:
        answer = client.ask(question)
    typer.echo(text_of(answer, include_footnotes=footnotes))
    for citation in answer.citations:
        page = f", page {citation.page}" if citation.page else ""
        typer.echo(f"  [{citation.path or citation.document}{page}]")
    ttft_s = answer.timing.ttft_s
    typer.echo(
        f"first text after {0.0 if ttft_s is None else ttft_s:.2f} s, "
        f"{answer.timing.end_to_end_s:.2f} s in all, "
        f"{len(answer.attempts)} requests, request id {answer.request_id}",
        err=True,
    )


@app.command("record")
def record(
    path: Annotated[Path, typer.Argument(help="File to write.")],
    questions: Annotated[list[str], typer.Argument(help="What to ask, in turn.")],
) -> None:
    """Record how the endpoint answers: its timing and shape, none of its words."""
    from harness.agents.recording import record_answers, save_recordings

    with _client(load_settings(check=False)) as client:
        recordings = record_answers(client, questions)
    save_recordings(recordings, path)
    typer.echo(f"{len(recordings)} answers recorded in {path}")


@app.command("stub")
def stub(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    plan: Annotated[
        Path | None, typer.Option(help="JSON file with a StubPlan.", exists=True)
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="File of `agent record`.", exists=True)
    ] = None,
) -> None:
    """Serve a stub endpoint until Ctrl-C, then state what it did and how late."""
    from harness.agents.recording import load_recordings
    from harness.agents.stub.plan import StubPlan
    from harness.agents.stub.process import AgentStub
    from harness.errors import ConfigError

    values: Any = {}
    if plan is not None:
        try:
            values = json.loads(plan.read_text(encoding="utf-8"))
        except ValueError as error:
            msg = f"{plan} is no JSON: {error}"
            raise ConfigError(msg) from error
    if replay is not None:
        values = {**values, "replay": load_recordings(replay)}
    with AgentStub(StubPlan.from_mapping(values), port=port) as server:
        # Its token is made up and good for nothing else; a client needs it.
        typer.echo(f"DATABRICKS_BASE_URL={server.base_url}")
        typer.echo(f"DATABRICKS_TOKEN={server.token.get_secret_value()}")
        typer.echo(f"DATABRICKS_MODEL={server.model}")
        typer.echo("Ctrl-C ends it", err=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            statement = server.statement()
    late = statement.lateness_ms
    typer.echo(
        f"{statement.requests_count} questions answered, {statement.tokens_sent} "
        f"tokens, refused: {statement.rejected or 'none'}; its own lateness: p50 "
        f"{late.p50:.3f} ms, p99 {late.p99:.3f} ms, max {late.max:.3f} ms"
    )


def token_kind(token: SecretStr | None) -> str:
    """Say what kind of token it is, and when a JWT ends, without any of it."""
    if token is None:
        return "not set"
    text = token.get_secret_value()
    if text.startswith("dapi"):
        return "personal access token"
    parts = text.split(".")
    if len(parts) != JWT_PARTS:
        return "of a kind that is not known here"
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded))
        ends = float(claims["exp"])
    except (ValueError, KeyError, TypeError, binascii.Error):
        return "OAuth access token"
    from harness.clock import SYSTEM_CLOCK

    left_s = ends - SYSTEM_CLOCK.now().timestamp()
    if left_s <= 0:
        return f"OAuth access token, expired {-left_s:.0f} s ago"
    return f"OAuth access token, good for {left_s:.0f} s more"


def _client(settings: Settings) -> AgentClient:
    from harness.agents.client import AgentClient

    return AgentClient.from_settings(settings.agent, databricks=settings.databricks)


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))
