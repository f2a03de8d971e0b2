"""Many who watch a monitor, in one small process: `python -m harness.monitor.crowd`.

They stand for people elsewhere, so they must cost little where they stand: one thread
takes what comes for all of them, and looks at no message. They do answer pings, or
the server would take them for gone.
"""

from __future__ import annotations

import selectors
import socket
import sys
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import Event, State
from websockets.uri import parse_uri

READ_BYTES = 1 << 18
CONNECT_TIMEOUT_S = 30.0
ALL_WATCH = "watching"


class Watcher:
    """One connection.

    Args:
        url: Of the WebSocket: ws://HOST:PORT/PATH.

    Attributes:
        socket: To wait for with `select`.
        updates: Messages it has had.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        address = parts.hostname or "127.0.0.1", parts.port or 80
        self.socket = socket.create_connection(address, CONNECT_TIMEOUT_S)
        self.updates = 0
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._answer()
        while self._protocol.state is State.CONNECTING:
            self.take()
        if self._protocol.state is not State.OPEN:
            msg = f"{url} is no WebSocket: {self._protocol.handshake_exc}"
            raise ConnectionError(msg)

    def take(self) -> bool:
        """Take what has come; return whether more may come."""
        received = self.socket.recv(READ_BYTES)
        if received:
            self._protocol.receive_data(received)
        else:
            self._protocol.receive_eof()
        self._answer()
        self.updates += sum(map(_ends_a_message, self._protocol.events_received()))
        return bool(received) and self._protocol.state is not State.CLOSED

    def _answer(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)


def _ends_a_message(event: Event) -> bool:
    opcode = getattr(event, "opcode", None)
    return opcode in {Opcode.TEXT, Opcode.CONT} and bool(getattr(event, "fin", False))


def watch(url: str, count: int) -> None:
    """Watch until standard input ends; say when all do, and at the end what they had.

    Args:
        url: Of the WebSocket.
        count: How many watch.
    """
    watchers = [Watcher(url) for _ in range(count)]
    waiting = set(watchers)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        for watcher in watchers:
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
        while True:
            for key, _ in selector.select():
                watcher = key.data
                if watcher is None:
                    left = len(selector.get_map()) - 1
                    updates = sum(one.updates for one in watchers)
                    sys.stdout.write(f"{updates} updates, {left} watching\n")
                    return
                if not watcher.take():
                    selector.unregister(watcher.socket)
                if watcher.updates and watcher in waiting:
                    waiting.remove(watcher)
                    if not waiting:
                        sys.stdout.write(f"{ALL_WATCH}\n")
                        sys.stdout.flush()


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]))
