"""A server that answers with exactly the bytes a test gives it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient

TOKEN = "dapi-canary-7f3e"

RESET, HANG, DRIP = object(), object(), object()


@dataclass
class RawServer:
    """Plays one script per request, the last one again and again."""

    scripts: list
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.closing = threading.Event()
        port = self._listener.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/serving-endpoints"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self.closing.set()
        # Closing a listener does not wake its accept; a connection does.
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(5)
        self._listener.close()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self.closing.is_set():
                    return
                # The client goes away, as some tests want it to.
                with suppress(OSError):
                    self._play(connection)

    def _play(self, connection):
        request = _read_request(connection)
        if not request:
            return
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(request)
        for step in script:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif step is RESET:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif step is HANG:
                connection.settimeout(10)
                connection.recv(1)  # returns when the client gives up
            elif step is DRIP:
                connection.settimeout(0.02)
                for _ in range(500):
                    connection.sendall(b":")
                    try:
                        if not connection.recv(1):
                            return
                    except TimeoutError:
                        pass


def _read_request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def make_server():
    """Return a factory of servers that play *scripts*; each is ended at teardown."""
    with ExitStack() as stack:

        def make(*scripts):
            server = RawServer(list(scripts))
            stack.callback(server.close)
            return server

        yield make


async def ask_in_loop(arguments, *, stream):
    async with AsyncAgentClient(**arguments) as client:
        return await client.ask("why?", stream=stream)


@pytest.fixture(params=["thread", "loop"])
def ask(request, make_server):
    """Ask a server that plays *scripts*, with either client.

    `ask.server` is the one asked last.
    """
    with ExitStack() as stack:

        def ask(*scripts, stream=True, **options):
            server = ask.server = make_server(*scripts)
            arguments = {
                "base_url": server.base_url,
                "token": SecretStr(TOKEN),
                "model": "ka-1-endpoint",
                "timeout_s": 5.0,
                **options,
            }
            if request.param == "loop":
                return asyncio.run(ask_in_loop(arguments, stream=stream))
            client = stack.enter_context(AgentClient(**arguments))
            return client.ask("why?", stream=stream)

        yield ask


def head(
    status="200 OK", content_type="text/event-stream", headers=b"", *, length=None
):
    """A response head; without a length the end of the connection is the body's."""
    size = b"" if length is None else b"Content-Length: %d\r\n" % length
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n".encode()
        + headers
        + size
        + b"Connection: close\r\n\r\n"
    )


@pytest.fixture
def wire():
    """The pieces scripts are made of."""
    return Wire


class Wire:
    head = staticmethod(head)
    RESET, HANG, DRIP = RESET, HANG, DRIP
    TOKEN = TOKEN

    @staticmethod
    def whole(status, body, content_type="application/json", headers=b""):
        """A script of one response with a whole body."""
        return [head(status, content_type, headers, length=len(body)) + body]

    @staticmethod
    def events(*data):
        """A script of one stream of events, closed in order."""
        return [head() + b"".join(b"data: " + d.encode() + b"\n\n" for d in data)]
