"""The pooler's rules, PgBouncer's in transaction mode: few servers, many clients."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.lakebase.standin.wire import (
    AUTHENTICATED,
    HEAD_BYTES,
    READY_IDLE,
    TERMINATE,
    Framer,
    Refusal,
    error_response,
    message,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harness.lakebase.standin.journal import Journal
    from harness.lakebase.standin.machine import Machine, Slots
    from harness.lakebase.standin.side import Side

    Login = Callable[[], Awaitable[tuple[Side, list[bytes], tuple[int, bytes]]]]

# After each of these the server answers with one ReadyForQuery.
ASKS = (b"S", b"Q", b"F")
WAITED_TOO_LONG = Refusal("08P01", "query_wait_timeout", "queue")
SERVER_GONE = Refusal("08P01", "server conn crashed?", "server gone")
NO_MORE_CLIENTS = Refusal("53300", "no more connections allowed (max_client_conn)")
NO_PREPARED = Refusal(
    "0A000",
    "prepared statements are not kept between transactions on the pooled host: "
    "switch them off",
    "prepared statement",
)


class Pool:
    """The servers of one user and database.

    Args:
        machine: The compute they run on.
        slots: Whose connections they take.
        size: Most of them.
        queue_s: Longest wait for one, in seconds here.
        login: Opens one.
        journal: Where waits that were too long are noted.
    """

    def __init__(
        self,
        *,
        machine: Machine,
        slots: Slots,
        size: int,
        queue_s: float,
        login: Login,
        journal: Journal,
    ) -> None:
        self.machine = machine
        self.queue_s = queue_s
        self.journal = journal
        self._slots = slots
        self._size = size
        self._login = login
        self._open = 0
        self._idle: list[PoolServer] = []
        self._waiting: deque[asyncio.Future[PoolServer]] = deque()
        self._welcome: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None

    async def welcome(self) -> bytes:
        """Return what a client is told after its login, as a server would say it.

        Raises:
            Refusal: No server can be had, so there is nothing to say.
        """
        if not self._welcome:
            self.release(await self.take())
        return b"".join(self._welcome)

    async def take(self) -> PoolServer:
        """Return a server: the one used last, a new one, or the next to come free.

        Raises:
            Refusal: None came free in time, or Postgres refuses.
        """
        while self._idle:
            server = self._idle.pop()
            if server.is_alive:
                return server
        place: asyncio.Future[PoolServer] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._grow()
        try:
            async with asyncio.timeout(self.queue_s):
                return await place
        except TimeoutError:
            self.journal.note("queue_timeout", compute=self.machine.compute.uid)
            raise WAITED_TOO_LONG from None
        finally:
            if place in self._waiting:
                self._waiting.remove(place)

    def release(self, server: PoolServer) -> None:
        """Take a server back, for whoever has waited longest."""
        server.client = None
        if not server.is_alive:
            return
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(server)
                return
        self._idle.append(server)

    def lost(self, server: PoolServer) -> None:
        """Forget a server that ended."""
        self._open -= 1
        self._slots.give_back(server)
        if server in self._idle:
            self._idle.remove(server)
        self._grow()

    def _grow(self) -> None:
        """Open a server if somebody waits: one at a time, as PgBouncer does.

        Clients come and go faster than a login; one for each that waits would end
        with more servers than clients.
        """
        if self._opening is None and self._waiting and self._open < self._size:
            self._open += 1
            self._opening = asyncio.create_task(self._add())

    async def _add(self) -> None:
        try:
            server = await self._opened()
        except Refusal as refusal:
            self._opening = None
            self._fail(refusal)
            return
        self._opening = None
        self.release(server)
        self._grow()

    async def _opened(self) -> PoolServer:
        self._slots.take(self.machine.compute.max_connections)
        try:
            side, messages, (pid, _) = await self._login()
        except BaseException:
            self._slots.give_back()
            raise
        self._welcome = [m for m in messages if m[:1] == b"S"]
        server = PoolServer(self, side, pid)
        self._slots.sessions.add(server)
        return server

    def _fail(self, refusal: Refusal) -> None:
        self._open -= 1
        # With servers in use, whoever waits gets one of those.
        if self._open == 0:
            while self._waiting:
                place = self._waiting.popleft()
                if not place.done():
                    place.set_exception(refusal)
                    break
            self._grow()


class PoolServer:
    """One server of a pool; what the compute sees of its clients.

    Args:
        pool: Whose it is.
        side: Its connection.
        pid: Its process.
    """

    def __init__(self, pool: Pool, side: Side, pid: int) -> None:
        self.pid = pid
        self.client: PoolClient | None = None
        self.is_alive = True
        self.running = False
        self.in_transaction = False
        self._pool = pool
        self._side = side
        self._framer = Framer()
        self._unanswered = 0
        self._began_ns = self._moved_ns = SYSTEM_CLOCK.monotonic_ns()
        side.relay(self._receive, on_lost=self._lost, peer=None)

    def idle_s(self, now_ns: int) -> float:
        """Return how long nothing was asked of it."""
        if self.running:
            self._moved_ns = now_ns
        return (now_ns - self._moved_ns) / NS_PER_S

    def age_s(self, now_ns: int) -> float:
        """Return the time since its login."""
        return (now_ns - self._began_ns) / NS_PER_S

    def end(self, refusal: Refusal) -> None:
        """End it; its client is told."""
        del refusal
        self._side.write(TERMINATE)
        self._side.close()

    def send(self, kind: bytes, data: bytes) -> None:
        """Send one message of the client."""
        if kind in ASKS:
            self._unanswered += 1
        self.running = True
        self._side.write(data)

    def abandon(self) -> None:
        """End it in the middle: its client is gone, its transaction with it."""
        self.client = None
        self._side.write(TERMINATE)
        self._side.close()

    def _receive(self, data: bytes) -> None:
        statuses = list(self._framer.statuses(data))
        self._unanswered -= len(statuses)
        if self.client is not None:
            self.client.write(data)
        if statuses:
            self.in_transaction = statuses[-1] != b"I"
            if self._unanswered == 0:
                self.running = False
                self._moved_ns = SYSTEM_CLOCK.monotonic_ns()
                if not self.in_transaction and self.client is not None:
                    self.client.detach()

    def _lost(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self.running = self.in_transaction = False
        self._pool.lost(self)
        if self.client is not None:
            self.client.server_lost()


class PoolClient:
    """One client of the pooled host.

    Args:
        pool: Where its servers come from.
        side: Its connection.
    """

    pid = 0

    def __init__(self, pool: Pool, side: Side) -> None:
        self._pool = pool
        self._side = side
        self._buffer = bytearray()
        self._server: PoolServer | None = None
        self._taking: asyncio.Task[None] | None = None
        self._skips = False
        self._over = False
        self._began_ns = self._moved_ns = SYSTEM_CLOCK.monotonic_ns()

    @property
    def running(self) -> bool:
        """Whether something was asked and not answered yet."""
        return self._server is not None or self._taking is not None

    @property
    def in_transaction(self) -> bool:
        """Whether a server is held between two questions."""
        return self._server is not None

    def start(self, welcome: bytes) -> None:
        """Tell it that it is logged in, and serve it."""
        self._pool.machine.pool_clients.add(self)
        # No process of its own to cancel: the key leads nowhere.
        key = message(b"K", struct.pack("!II", 0, 0))
        self._side.write(AUTHENTICATED + welcome + key + READY_IDLE)
        self._side.relay(self._receive, on_lost=self._leave, peer=None)

    def idle_s(self, now_ns: int) -> float:
        """Return how long nothing came from it."""
        if self.running:
            self._moved_ns = now_ns
        return (now_ns - self._moved_ns) / NS_PER_S

    def age_s(self, now_ns: int) -> float:
        """Return the time since its login."""
        return (now_ns - self._began_ns) / NS_PER_S

    def end(self, refusal: Refusal) -> None:
        """End it with a reason."""
        self._side.write(error_response(refusal))
        self._leave()

    def write(self, data: bytes) -> None:
        """Give it what its server says."""
        self._side.write(data)

    def detach(self) -> None:
        """Give its server back: the transaction is over."""
        server, self._server = self._server, None
        if server is not None:
            self._pool.release(server)
        self._pump()

    def server_lost(self) -> None:
        """End it: its server went in the middle, after saying why if it could."""
        self._server = None
        self.end(SERVER_GONE)

    def _receive(self, data: bytes) -> None:
        self._moved_ns = SYSTEM_CLOCK.monotonic_ns()
        self._buffer += data
        self._pump()

    def _pump(self) -> None:
        """Send whole messages to the server, once there is one."""
        while len(self._buffer) >= HEAD_BYTES and not self._over:
            size = struct.unpack_from("!I", self._buffer, 1)[0] + 1
            if len(self._buffer) < size:
                return
            kind, data = bytes(self._buffer[:1]), bytes(self._buffer[:size])
            if kind == b"X":
                self._leave()
                return
            if self._skips or (kind == b"P" and data[5:6] != b"\0"):
                del self._buffer[:size]
                self._refuse(kind)
                continue
            if self._server is None:
                if self._taking is None:
                    self._taking = asyncio.create_task(self._take())
                return
            del self._buffer[:size]
            self._server.send(kind, data)

    def _refuse(self, kind: bytes) -> None:
        """Refuse a named statement, and with it all up to the next Sync."""
        if not self._skips:
            self._side.write(error_response(NO_PREPARED, severity="ERROR"))
            self._skips = True
        if kind == b"S":
            self._skips = False
            held = self._server is not None
            self._side.write(READY_IDLE[:-1] + (b"T" if held else b"I"))

    async def _take(self) -> None:
        try:
            await self._pool.machine.ready()
            server = await self._pool.take()
        except Refusal as refusal:
            self._taking = None
            self.end(refusal)
            return
        self._taking = None
        if self._over:
            self._pool.release(server)
            return
        self._server = server
        server.client = self
        if not server.is_alive:
            self.server_lost()
        self._pump()

    def _leave(self) -> None:
        if self._over:
            return
        self._over = True
        self._pool.machine.pool_clients.discard(self)
        server, self._server = self._server, None
        if server is not None:
            server.abandon()
        self._side.close()
