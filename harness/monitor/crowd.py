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
from websockets.protocol import State
from websockets.uri import parse_uri

READ_BYTES = 1 << 18
CONNECT_TIMEOUT_S = 30.0
ALL_WATCH = "watching"
# RFC 6455, section 5.2: a final text frame, and a length that follows in 16 bits.
WHOLE_TEXT, LENGTH_16 = 0x81, 126


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
        self._frames = b""
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._protocol.send_request(self._protocol.connect())
        self._answer()
        # A byte at a time: not one of the first frame.
        while self._protocol.state is State.CONNECTING:
            if not (received := self.socket.recv(1)):
                break
            self._protocol.receive_data(received)
        if self._protocol.state is not State.OPEN:
            self.socket.close()
            why = self._protocol.handshake_exc or "it hung up"
            msg = f"{url} is no WebSocket: {why}"
            raise ConnectionError(msg)

    def take(self) -> bool:
        """Take what has come; return whether more may come."""
        received = self.socket.recv(READ_BYTES)
        if not received:
            return False
        frames = self._frames + received
        at = 0
        while (end := _end_of_frame(frames, at)) is not None:
            if frames[at] == WHOLE_TEXT:
                self.updates += 1  # What it says is looked at by nobody.
            else:
                self._protocol.receive_data(frames[at:end])
                self._answer()
            at = end
        self._frames = frames[at:]
        return self._protocol.state is State.OPEN

    def _answer(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.socket.sendall(data)


def _end_of_frame(frames: bytes, at: int) -> int | None:
    """Return where the frame that begins at *at* ends; None if not all is there."""
    if len(frames) < at + 2:
        return None
    length, head = frames[at + 1] & 0x7F, 2
    if length >= LENGTH_16:
        head = 4 if length == LENGTH_16 else 10
        length = int.from_bytes(frames[at + 2 : at + head], "big")
    end = at + head + length
    return end if end <= len(frames) else None


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
