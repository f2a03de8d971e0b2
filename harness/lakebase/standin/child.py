"""The child's side of the pipe: requests in, one JSON line each way, until it ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.lakebase.standin.resources import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Command = Callable[..., Awaitable[Any] | Any]

STDIN = 0
PARENT_CHECK_S = 1.0
LINE_BYTES_MAX = 64 * 1024 * 1024


def read_line() -> bytes:
    """Return the first line of standard input, and nothing after it."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(STDIN, 1)):
        line += byte
    return bytes(line)


def loop_factory() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed: forwarding costs half."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def say(message: dict[str, Any]) -> None:
    """Write one line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def obey(commands: dict[str, Command]) -> None:
    """Carry out the parent's requests until it closes the pipe, or dies.

    A forked child of the parent may hold the pipe open after the parent was killed,
    so the parent itself is looked at too.
    """
    loop = asyncio.get_running_loop()
    requests: asyncio.Queue[bytes | None] = asyncio.Queue()

    def listen() -> None:
        # os.read, not sys.stdin: a thread blocked in the latter cannot be left.
        buffer = bytearray()
        while data := os.read(STDIN, 65_536):
            buffer += data
            while (end := buffer.find(b"\n")) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                loop.call_soon_threadsafe(requests.put_nowait, line)
        loop.call_soon_threadsafe(requests.put_nowait, None)

    threading.Thread(target=listen, name="stdin", daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            line = await asyncio.wait_for(requests.get(), PARENT_CHECK_S)
        except TimeoutError:
            continue
        if line is None:
            return
        try:
            say({"answer": await _carry_out(commands, json.loads(line))})
        except BrokenPipeError:
            return


async def _carry_out(commands: dict[str, Command], request: dict[str, Any]) -> Any:
    name = request.pop("do")
    try:
        answer = commands[name](**request)
        if asyncio.iscoroutine(answer):
            answer = await answer
    except (HarnessError, RefusedError, TypeError, KeyError, ValueError) as error:
        return {"failure": f"{name}: {error}"}
    return {"value": answer}
