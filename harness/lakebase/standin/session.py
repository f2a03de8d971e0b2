"""A session after its login: two connections that pass bytes to each other."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.lakebase.standin.wire import (
    READY_HEAD,
    READY_IDLE,
    TERMINATE,
    Refusal,
    error_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lakebase.standin.side import Side

TAIL_BYTES = len(READY_IDLE)
LIMIT_NAME = b"max_connections"
STARTED = b"pg_postmaster_start_time()"
# Longer statements are not searched: nobody hides the question in a bulk load.
SEARCHED_BYTES_MAX = 512


class Session:
    """One client and its server process.

    Args:
        client: The client's side.
        server: The side of the backing Postgres.
        pid: Server process.
        limit: What `SHOW max_connections` must answer.
        up_s: For how long its server has been up, in seconds; None for as long as
            the backing Postgres.
        on_end: Called once, when both sides are gone or going.
    """

    def __init__(
        self,
        *,
        client: Side,
        server: Side,
        pid: int,
        limit: Callable[[], int],
        up_s: Callable[[], float | None],
        on_end: Callable[[Session], None],
    ) -> None:
        self.pid = pid
        self.began_ns = self.moved_ns = SYSTEM_CLOCK.monotonic_ns()
        self.running = False
        self.in_transaction = False
        self._client = client
        self._server = server
        self._limit = limit
        self._up_s = up_s
        self._on_end = on_end
        self._tail = b""
        self._moved = False
        self._ended = False

    def start(self) -> None:
        """Begin to pass bytes on."""
        self._server.relay(self._to_client, on_lost=self._lost, peer=self._client)
        self._client.relay(self._to_server, on_lost=self._lost, peer=self._server)

    def idle_s(self, now_ns: int) -> float:
        """Return how long nothing was asked, to the precision of the last call."""
        if self._moved or self.running:
            self._moved = False
            self.moved_ns = now_ns
        return (now_ns - self.moved_ns) / NS_PER_S

    def age_s(self, now_ns: int) -> float:
        """Return the time since the login."""
        return (now_ns - self.began_ns) / NS_PER_S

    def end(self, refusal: Refusal) -> None:
        """End it from the server's side, with a reason the client can read."""
        self._client.write(error_response(refusal))
        self._lost()

    def _to_server(self, data: bytes) -> None:
        self._moved = self.running = True
        if len(data) <= SEARCHED_BYTES_MAX:
            if LIMIT_NAME in data:
                data = with_limit(data, self._limit())
            if STARTED in data and (up_s := self._up_s()) is not None:
                data = with_start(data, up_s)
        self._server.write(data)

    def _to_client(self, data: bytes) -> None:
        tail = data[-TAIL_BYTES:]
        if len(tail) < TAIL_BYTES:
            tail = (self._tail + tail)[-TAIL_BYTES:]
        self._tail = tail
        if tail[:-1] == READY_HEAD:
            self.running = False
            self.in_transaction = tail != READY_IDLE
        self._client.write(data)

    def _lost(self) -> None:
        """End both sides, whichever went first."""
        if self._ended:
            return
        self._ended = True
        # A client that vanished has not said good-bye to Postgres.
        self._server.write(TERMINATE)
        self._server.close()
        self._client.close()
        self._on_end(self)


def with_limit(data: bytes, limit: int) -> bytes:
    """Return a client's message with the question for max_connections answered.

    The backing Postgres has a limit of its own, which is not that of the compute.
    What is asked in any other way than the usual two gets the backing's.
    """
    value = b"'%d'::text" % limit

    def answered(query: bytes) -> bytes:
        if query.strip(b" ;\n").lower() == b"show max_connections":
            return b"SELECT " + value + b" AS max_connections"
        return query.replace(b"current_setting('max_connections')", value)

    return _with_query(data, answered)


def with_start(data: bytes, up_s: float) -> bytes:
    """Return a client's message with the question for the server's start answered.

    A compute that woke has just started; the backing Postgres has not. Its clock is
    asked, because ours may differ.
    """
    value = b"(clock_timestamp() - '%.6f s'::interval)" % up_s
    return _with_query(data, lambda query: query.replace(STARTED, value))


def _with_query(data: bytes, answered: Callable[[bytes], bytes]) -> bytes:
    """Return a Query or Parse message with another text; all else as it is."""
    kind, length = data[:1], len(data)
    if kind not in {b"Q", b"P"} or length < TAIL_BYTES:
        return data
    size = struct.unpack_from("!I", data, 1)[0] + 1
    if size > length:
        return data
    first, rest = data[5:size], data[size:]
    name, separator, text = (b"", b"", first)
    if kind == b"P":
        name, separator, text = first.partition(b"\0")
    query, zero, tail = text.partition(b"\0")
    body = name + separator + answered(query) + zero + tail
    return kind + struct.pack("!I", len(body) + 4) + body + rest
