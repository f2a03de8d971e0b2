"""`python -m harness.agents.stub`: one stub, until its standard input ends.

The first line of standard input is a JSON object: `token` and `client_secret` (made
up when absent), `plan` (see `StubPlan`), `port` (any free one by default) and `loop`
("precise" by default, or "uvloop"). Standard output then gets one line: `base_url`,
`scheduling` (realtime, raised, ordinary), `ca_pem` with HTTPS, and what was made up.
When standard input ends, the stub writes its statement as one more line (timing error
included, entries left out) and ends: it cannot outlive its parent, however that died.

So any language that can start a process and write a line can use it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import secrets
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from harness.agents.stub.event_loop import new_event_loop
from harness.agents.stub.plan import StubPlan
from harness.agents.stub.server import StubProtocol, StubServer
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
STDIN = 0
EXIT_USAGE = 2
CONNECTIONS_WAITING_MAX = 2048
NICENESS = -10
# What speaks no TLS answers a client's greeting with.
NO_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"


def main() -> int:
    """Serve until standard input ends; return the exit code."""
    made_up: dict[str, str] = {}
    try:
        config = json.loads(_read_line().strip() or b"{}")
        for name in ("token", "client_secret"):
            if config.get(name) is None:
                config[name] = made_up[name] = secrets.token_urlsafe(24)
        server = StubServer(
            plan=StubPlan.from_mapping(config.get("plan", {})),
            token=config["token"],
            client_secret=config["client_secret"],
        )
        port = int(config.get("port", 0))
        make_loop = _loop_factory(config.get("loop", "precise"))
    except (ConfigError, ValueError, AttributeError) as error:
        sys.stderr.write(f"stub: the first line is no configuration: {error}\n")
        return EXIT_USAGE
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(_serve(server, port=port, made_up=made_up))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.stderr.write(f"stub: cannot serve at {HOST}:{port}: {error}\n")
        return EXIT_USAGE
    _say(_account(server))
    return 0


async def _serve(server: StubServer, *, port: int, made_up: dict[str, str]) -> None:
    loop = asyncio.get_running_loop()
    tls = server.plan.tls
    context, ready = None, {}
    if tls not in {"off", "broken"}:
        from harness.agents.stub.tls import server_context

        context, ready["ca_pem"] = server_context(tls)
    make: Callable[[], asyncio.Protocol] = lambda: StubProtocol(server)  # noqa: E731
    if tls == "broken":
        make = _NoTls
    listener = await loop.create_server(
        make, HOST, port, backlog=CONNECTIONS_WAITING_MAX, ssl=context
    )
    bound_port = listener.sockets[0].getsockname()[1]
    server.origin = f"{'http' if tls == 'off' else 'https'}://{HOST}:{bound_port}"
    ready["base_url"] = f"{server.origin}/serving-endpoints"
    ready["scheduling"] = _go_first()
    # What was imported lives as long as the process: no collection need visit it.
    gc.freeze()
    _say({**ready, **made_up})
    ended = asyncio.Event()
    watcher = threading.Thread(
        target=_wait_for_end, args=(loop, ended), name="stdin", daemon=True
    )
    watcher.start()
    await ended.wait()
    listener.close()


class _NoTls(asyncio.Protocol):
    """Answers a TLS greeting in plain text."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        del data
        self._transport.write(NO_TLS)
        self._transport.close()


def _account(server: StubServer) -> dict[str, Any]:
    """Return the statement without what only a program wants, in order."""
    account = server.journal.statement().to_mapping()
    return {k: v for k, v in account.items() if k not in {"entries", "refusals"}}


def _say(line: dict[str, Any]) -> None:
    # Whoever started it may be gone.
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop.

    Raises:
        ConfigError: If there is no such loop here.
    """
    if name == "precise":
        return new_event_loop
    if name == "uvloop":
        try:
            import uvloop
        except ModuleNotFoundError as error:
            msg = "loop is 'uvloop', which is not installed: run `pip install uvloop`"
            raise ConfigError(msg) from error
        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
        return factory
    msg = f"loop is {name!r}; it must be 'precise' or 'uvloop'"
    raise ConfigError(msg)


def _go_first() -> str:
    """Ask the system to run this process before others; return how it will.

    A real endpoint does not share its cores with its callers. Beside two busy
    processes on two cores, p99 lateness is 25 ms as a process like any other and
    0.2 ms with real-time scheduling, which usually takes root. The stub sleeps
    between tokens, and the system keeps a share for others in any case.
    """
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        return "realtime"
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
        return "raised"
    return "ordinary"


def _wait_for_end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    # os.read, not sys.stdin: a thread blocked in the latter cannot be left behind.
    while os.read(STDIN, 4096):
        pass
    loop.call_soon_threadsafe(ended.set)


def _read_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(STDIN, 1)):
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
