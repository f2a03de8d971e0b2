"""`python -m harness.agents.stub`: one stub, until its standard input ends.

The first line of standard input is a JSON object: `token` (made up when absent),
`plan` (see `StubPlan`) and `port` (any free one by default). Standard output then
gets one line: `base_url`, `scheduling` (realtime, raised, ordinary), and `token` if
it was made up. When standard input ends,
the stub does: it cannot outlive its parent, however that one died.
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

from harness.agents.stub.plan import StubPlan
from harness.agents.stub.server import StubProtocol, StubServer, new_event_loop
from harness.errors import ConfigError

HOST = "127.0.0.1"
STDIN = 0
EXIT_USAGE = 2
CONNECTIONS_WAITING_MAX = 2048
NICENESS = -10


def main() -> int:
    """Serve until standard input ends; return the exit code."""
    try:
        config = json.loads(_read_line().strip() or b"{}")
        token = config.get("token")
        made_up = token is None
        token = token or secrets.token_urlsafe(24)
        server = StubServer(
            plan=StubPlan.from_mapping(config.get("plan", {})), token=token
        )
        port = int(config.get("port", 0))
    except (ConfigError, ValueError, AttributeError) as error:
        sys.stderr.write(f"stub: the first line is no configuration: {error}\n")
        return EXIT_USAGE
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(server, port=port, shown_token=token if made_up else None))
    return 0


async def _serve(server: StubServer, *, port: int, shown_token: str | None) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: StubProtocol(server), HOST, port, backlog=CONNECTIONS_WAITING_MAX
    )
    bound_port = listener.sockets[0].getsockname()[1]
    ready = {
        "base_url": f"http://{HOST}:{bound_port}/serving-endpoints",
        "scheduling": _go_first(),
    }
    if shown_token is not None:
        ready["token"] = shown_token
    # What was imported lives as long as the process: no collection need visit it.
    gc.freeze()
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    watcher = threading.Thread(
        target=_wait_for_end, args=(loop, ended), name="stdin", daemon=True
    )
    watcher.start()
    await ended.wait()
    listener.close()


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
