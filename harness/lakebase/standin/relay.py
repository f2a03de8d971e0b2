"""The data path of the fault proxy: two directions that a fault can spoil."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from harness.lakebase.standin.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

# Beyond it the sender is told to stop, as a full socket buffer would.
HELD_BYTES_MAX = 256 * 1024
_LINGER_NOT = struct.pack("ii", 1, 0)


class Direction(asyncio.Protocol):
    """Receives at one end and delivers at the other.

    Args:
        relay: What both directions of a connection share.
    """

    transport: asyncio.Transport
    peer: Direction

    def __init__(self, relay: Relay) -> None:
        self.is_open = False
        self._relay = relay
        self._held: deque[bytes | None] = deque()
        self._held_bytes = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sender_stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the end."""
        self.transport = transport  # type: ignore[assignment] # stream sockets only
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Deliver at once if nothing is wrong, else when it is due."""
        self._relay.bytes += len(data)
        if self._relay.healthy and not self._held:
            self.peer.write(data)
            return
        self._hold(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of the connection on, after what came before it."""
        del exc
        self.is_open = False
        self._hold(None)
        if not self.peer.is_open:
            self._relay.ended()

    def pause_writing(self) -> None:
        """Stop the sender: this end reads too slowly."""
        if self.peer.is_open:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self.peer.is_open and not self.peer.is_stopped:
            self.peer.transport.resume_reading()

    @property
    def is_stopped(self) -> bool:
        """Whether too much waits for delivery from here."""
        return self._sender_stopped

    def write(self, data: bytes) -> None:
        """Deliver here."""
        if self.is_open:
            self.transport.write(data)

    def reset(self) -> None:
        """End it as a crash would: without a word to the other side but RST."""
        if self.is_open:
            # A second descriptor of the same socket: event loops hide theirs.
            descriptor = self.transport.get_extra_info("socket").fileno()
            with socket.socket(fileno=os.dup(descriptor)) as raw:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self.transport.abort()

    def forget(self) -> None:
        """Drop what waits."""
        self._held.clear()
        self._held_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def schedule(self) -> None:
        """Deliver what is due, and come back for the rest."""
        if self._timer is None and self._held and not self._relay.fault.black_hole:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._due_at(loop.time()), self._deliver)

    def _hold(self, data: bytes | None) -> None:
        self._held.append(data)
        self._held_bytes += len(data or b"")
        if self._held_bytes > HELD_BYTES_MAX and self.is_open:
            self._sender_stopped = True
            self.transport.pause_reading()
        self.schedule()

    def _due_at(self, now: float) -> float:
        fault = self._relay.fault
        due = now + fault.latency_s + fault.jitter_s * self._relay.draw()
        if fault.bandwidth_bytes_per_s is not None:
            begins = max(due, self._free_at)
            due = begins + len(self._held[0] or b"") / fault.bandwidth_bytes_per_s
            self._free_at = due
        return due

    def _deliver(self) -> None:
        self._timer = None
        fault = self._relay.fault
        if fault.black_hole:
            return
        # What came in the same moment leaves in the same moment, but for bandwidth.
        at_once = 1 if fault.bandwidth_bytes_per_s is not None else len(self._held)
        for _ in range(at_once):
            data = self._held.popleft()
            if data is None:
                if self.peer.is_open:
                    self.peer.transport.close()
                self._relay.ended()
                continue
            self._held_bytes -= len(data)
            self.peer.write(data)
        if self._sender_stopped and self._held_bytes <= HELD_BYTES_MAX // 2:
            self._sender_stopped = False
            if self.is_open:
                self.transport.resume_reading()
        self.schedule()


class Relay:
    """One connection through the proxy.

    Args:
        fault: What the network is like now.
        seed: Of its jitter.
        on_end: Called once, when an end of the connection was passed on.
    """

    def __init__(
        self, fault: Fault, *, seed: int, on_end: Callable[[Relay], None]
    ) -> None:
        self.bytes = 0
        self.client, self.server = Direction(self), Direction(self)
        self.client.peer, self.server.peer = self.server, self.client
        self.draw = random.Random(seed).random  # noqa: S311 - jitter, no secret
        self._on_end: Callable[[Relay], None] | None = on_end
        self.change(fault)

    def change(self, fault: Fault) -> None:
        """Have another network from now on."""
        self.fault = fault
        self.healthy = not (
            fault.latency_s
            or fault.jitter_s
            or fault.bandwidth_bytes_per_s
            or fault.black_hole
        )
        for direction in (self.client, self.server):
            direction.schedule()

    def reset(self) -> None:
        """Reset both ends."""
        for direction in (self.client, self.server):
            direction.forget()
            direction.reset()
        self.ended()

    def lose_server(self) -> None:
        """Lose the server's end, and tell the client nothing."""
        self.server.forget()
        self.server.reset()
        self.fault = Fault(black_hole=True)
        self.healthy = False

    @property
    def is_lost(self) -> bool:
        """Whether it has a client and no server."""
        return self.client.is_open and not self.server.is_open

    def ended(self) -> None:
        """Report the end, once."""
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self)
