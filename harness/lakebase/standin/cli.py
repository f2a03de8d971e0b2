"""The command about the stand-in: a Lakebase on this machine, for any client."""

from __future__ import annotations

import json
import shlex
import signal
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lakebase.standin.events import Event
    from harness.lakebase.standin.faults import Timed
    from harness.postgres.server import Server

Cu = Annotated[float, typer.Option(help="Compute units; they set the limit.")]
TimeScale = Annotated[
    float, typer.Option(help="Seconds of the service in one second here.")
]
SuspendAfter = Annotated[
    float | None,
    typer.Option(
        "--suspend-after-s", help="Suspend after so long without a query; never."
    ),
]
Wake = Annotated[float, typer.Option("--wake-s", help="Seconds a wake takes.")]
Timetable = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help='Faults of the network and events of the compute, as JSON: [{"at_s": 5, '
        '"latency_s": 0.05}, {"at_s": 9, "do": "suspend"}, ...].',
    ),
]
Tls = Annotated[bool, typer.Option("--tls/--no-tls", help="Offer and demand TLS.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this subject."""
    group = typer.Typer(no_args_is_help=True)
    group.command("serve")(serve)
    group.callback()(lambda: None)
    app.add_typer(group, name="standin", help="A Lakebase on this machine.")


def serve(
    *,
    cu: Cu = 1.0,
    time_scale: TimeScale = 1.0,
    suspend_after_s: SuspendAfter = None,
    wake_s: Wake = 0.3,
    tls: Tls = True,
    timetable: Timetable = None,
) -> None:
    """Serve a Lakebase on this machine until Ctrl-C; print what to export.

    The token printed is made up for this run and good for nothing else. Behind it is
    the Postgres of LAKEGAUGE_POSTGRES_DSN, or an embedded one.
    """
    from harness.lakebase.standin.fault_proxy import FaultProxy
    from harness.lakebase.standin.plan import HOST, StandinPlan
    from harness.lakebase.standin.standin import LakebaseStandin

    plan = StandinPlan(
        cu=cu,
        time_scale=time_scale,
        suspend_after_s=suspend_after_s,
        wake_s=wake_s,
        tls=tls,
    )
    faults, events = _read_timetable(timetable)
    with ExitStack() as stack:
        ended = stack.enter_context(_watch_for_end())
        backing = _start_backing()
        stack.callback(backing.close)
        standin = stack.enter_context(LakebaseStandin(plan, backing=backing))
        environment = standin.environment()
        if timetable is not None:
            proxy = stack.enter_context(FaultProxy(HOST, standin.port))
            environment["LAKEBASE_PORT"] = str(proxy.port)
            proxy.play(faults)
            standin.play(events)
        for name, value in environment.items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        typer.echo(f"# stand-in of {standin.endpoint}; Ctrl-C ends it")
        ended.recv(1)


@contextmanager
def _watch_for_end() -> Iterator[socket.socket]:
    """Turn Ctrl-C and SIGTERM, at any time, into an orderly end; yield what to wait on.

    The kernel may hand a signal to any thread, such as one that plays a timetable. The
    wake-up socket reaches the main thread all the same; a wait for a lock would go on.
    """
    endings = (signal.SIGINT, signal.SIGTERM)

    def end(_number: int, _frame: object) -> None:
        for number in endings:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit

    waiting, waking = socket.socketpair()
    with waiting, waking:
        waking.settimeout(0)
        before = signal.set_wakeup_fd(waking.fileno())
        try:
            for number in endings:
                signal.signal(number, end)
            yield waiting
        finally:
            signal.set_wakeup_fd(before)


def _read_timetable(path: Path | None) -> tuple[list[Timed], list[Event]]:
    """Return the faults of the network and the events of the compute."""
    from harness.lakebase.standin.events import read_events
    from harness.lakebase.standin.faults import read_timetable

    if path is None:
        return [], []
    try:
        rows: Any = json.loads(path.read_text())
    except ValueError as error:
        msg = f"--timetable={path} is no JSON: {error}"
        raise ConfigError(msg) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        msg = f"--timetable={path} must hold a list of objects"
        raise ConfigError(msg)
    return (
        read_timetable(row for row in rows if "do" not in row),
        read_events(row for row in rows if "do" in row),
    )


def _start_backing() -> Server:
    from harness.postgres.dsn import open_dsn
    from harness.settings import load_settings

    settings = load_settings(check=False)
    if settings.target.postgres_dsn is not None:
        return open_dsn(settings, reason="LAKEGAUGE_POSTGRES_DSN is set")
    from harness.lakebase.standin.provision import start_plain_backing

    return start_plain_backing(settings)
