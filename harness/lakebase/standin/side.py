"""One side of a session: read message by message at login, then passed on as it is."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

from harness.lakebase.standin.wire import HEAD_BYTES, STARTUP_BYTES_MAX, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE_BYTES_MAX = 1024 * 1024


class Side(asyncio.Protocol):
    """The connection to the client, or to the backing Postgres."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.closed = False
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._receive: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._peer: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = transport  # type: ignore[assignment] # stream sockets only

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; before the relay, keep them for `read_message`."""
        if self._receive is not None:
            self._receive(data)
            return
        self._buffer += data
        if len(self._buffer) > 2 * MESSAGE_BYTES_MAX:
            self.transport.abort()
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        del exc
        self.closed = True
        self._arrived.set()
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        """Stop the other side: this one reads too slowly."""
        if self._peer is not None and not self._peer.closed:
            self._peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        if self._peer is not None and not self._peer.closed:
            self._peer.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is gone."""
        if not self.closed:
            self.transport.write(data)

    def close(self) -> None:
        """Send what is buffered, then close."""
        if not self.closed:
            self.transport.close()

    def relay(
        self,
        receive: Callable[[bytes], None],
        *,
        on_lost: Callable[[], None],
        peer: Side | None,
    ) -> None:
        """From now on give every byte to *receive*, what is buffered first."""
        self._receive, self._on_lost, self._peer = receive, on_lost, peer
        if self._buffer:
            waiting, self._buffer = bytes(self._buffer), bytearray()
            receive(waiting)
        if self.closed:
            on_lost()

    async def read_startup(self) -> bytes:
        """Return the next startup packet without its length.

        Raises:
            ProtocolError: It has no sensible length.
            ConnectionError: The connection ended first.
        """
        head = await self._read(4)
        (length,) = struct.unpack("!I", head)
        if not 8 <= length <= STARTUP_BYTES_MAX:  # noqa: PLR2004 - length and code
            msg = f"a startup packet of {length} bytes"
            raise ProtocolError(msg)
        return await self._read(length - 4)

    async def read_message(self) -> tuple[bytes, bytes]:
        """Return kind and payload of the next message.

        Raises:
            ProtocolError: It is too long for a login.
            ConnectionError: The connection ended first.
        """
        head = await self._read(HEAD_BYTES)
        (length,) = struct.unpack_from("!I", head, 1)
        if not 4 <= length <= MESSAGE_BYTES_MAX:  # noqa: PLR2004 - itself
            msg = f"a message of {length} bytes during login"
            raise ProtocolError(msg)
        return head[:1], await self._read(length - 4)

    async def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if self.closed:
                msg = "the connection ended during login"
                raise ConnectionError(msg)
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data
