"""`python -m harness.lakebase.standin.fault_service`: a TCP proxy that can fail.

The first line of standard input is a JSON object: `host` and `port` to connect to,
and `seed`. Standard output then gets one line with the port it listens on; each
further line in is a request, answered by one line; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.standin.child import loop_factory, obey, read_line, say
from harness.lakebase.standin.faults import Fault, Timed, read_timetable
from harness.lakebase.standin.journal import Journal
from harness.lakebase.standin.plan import HOST
from harness.lakebase.standin.relay import Relay

if TYPE_CHECKING:
    from harness.lakebase.standin.child import Command

EXIT_USAGE = 2
CONNECTIONS_WAITING_MAX = 2048
CONNECT_TIMEOUT_S = 10.0


class FaultService:
    """Passes connections on, through the network it is told to be.

    Args:
        host: Where to.
        port: Its port.
        seed: Of jitter, and of which connections a fault hits.
    """

    def __init__(self, host: str, port: int, *, seed: int) -> None:
        self.journal = Journal(clock=SYSTEM_CLOCK)
        self._target = host, port
        self._draw = random.Random(seed)  # noqa: S311 - which connection, no secret
        self._fault = Fault()
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._playing: asyncio.Task[None] | None = None
        self._accepted = self._bytes = 0

    async def start(self) -> int:
        """Begin to listen; return the port."""
        listener = socket.create_server((HOST, 0), backlog=CONNECTIONS_WAITING_MAX)
        listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._keep(self._accept(listener))
        port: int = listener.getsockname()[1]
        return port

    def commands(self) -> dict[str, Command]:
        """Return what the parent may ask for."""
        return {
            "set": lambda fault: self._set(Fault(**fault), planned_s=None),
            "play": self._play,
            "ledger": self._ledger,
        }

    def _ledger(self) -> dict[str, Any]:
        return {
            **self.journal.to_mapping(),
            "accepted": self._accepted,
            "open": len(self._relays),
            "bytes": self._bytes + sum(relay.bytes for relay in self._relays),
            "playing": self._playing is not None and not self._playing.done(),
        }

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _set(self, fault: Fault, *, planned_s: float | None) -> None:
        self._fault = fault
        alive = [relay for relay in self._relays if not relay.is_lost]
        for relay in alive:
            relay.change(fault)
        hit: list[Relay] = []
        if fault.reset or fault.half_open:
            hit = [r for r in alive if self._draw.random() < fault.share]
        for relay in hit:
            relay.reset() if fault.reset else relay.lose_server()
        self.journal.note(
            "fault",
            fault=str(fault),
            planned_s=planned_s,
            open=len(alive),
            hit=len(hit),
        )

    def _play(self, timetable: list[dict[str, Any]]) -> None:
        if self._playing is not None:
            self._playing.cancel()
        self._playing = self._keep(self._perform(read_timetable(timetable)))

    async def _perform(self, timetable: list[Timed]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for timed in timetable:
            await asyncio.sleep(began + timed.at_s - loop.time())
            self._set(timed.fault, planned_s=timed.at_s)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._accepted += 1
            if self._fault.refuse:
                linger = b"\x01\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep(self._connect(connection))

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        relay = Relay(self._fault, seed=self._accepted, on_end=self._forget)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: relay.server, *self._target)
        except (OSError, TimeoutError) as error:
            self.journal.note("unreachable", reason=repr(error))
            connection.close()
            return
        self._relays.add(relay)
        # The network may have changed while it connected.
        relay.change(self._fault)
        await loop.connect_accepted_socket(lambda: relay.client, connection)

    def _forget(self, relay: Relay) -> None:
        self._relays.discard(relay)
        self._bytes += relay.bytes


def main() -> int:
    """Serve until standard input ends; return the exit code."""
    try:
        config = json.loads(read_line().strip() or b"{}")
        host, port = str(config["host"]), int(config["port"])
        seed = int(config.get("seed", 0))
    except (KeyError, ValueError, TypeError) as error:
        sys.stderr.write(f"fault proxy: the first line is no configuration: {error}\n")
        return EXIT_USAGE
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_serve(FaultService(host, port, seed=seed)))
    return 0


async def _serve(service: FaultService) -> None:
    say({"port": await service.start()})
    await obey(service.commands())


if __name__ == "__main__":
    sys.exit(main())
