"""One look at the figures a tick, sent to everybody who watches; nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from fastapi import WebSocketDisconnect

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import ConfigError
from harness.monitor.views_live import Ack
from harness.reports.live import LiveData, MetricsUpdate

if TYPE_CHECKING:
    from fastapi import WebSocket

INTERVAL_S = 1.0
INTERVAL_MIN_S = 0.05
CLIENTS_MAX = 500
# A client that has not taken an update by then is dropped, not waited for.
SEND_TIMEOUT_S = 5.0
MESSAGE_CHARACTERS_MAX = 4096
TRY_AGAIN_LATER = 1013

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where figures come from. May read files or take locks: never the event loop."""

    def live(self) -> LiveData:
        """Return what is so now."""
        ...


class _Client:
    """One who watches, and the newest update it has not taken yet."""

    __slots__ = ("_text", "_wake", "is_stuck", "sending_since_s", "websocket")

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.is_stuck = False
        self.sending_since_s: float | None = None
        self._text: str | None = None
        self._wake: asyncio.Future[None] | None = None

    def offer(self, text: str) -> None:
        """Put the newest in, in place of one that has not been taken."""
        self._text = text
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def take(self) -> str:
        """Return the newest, once there is one."""
        while self._text is None:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        text, self._text = self._text, None
        return text


class Broadcaster:
    """Looks at a source while anybody watches, and sends what it sees to all.

    However many watch, there is one look a tick, on a thread, and one encoding.
    With nobody watching there is none at all.

    Args:
        source: Where figures come from.
        interval_s: Time between two updates, in seconds.
        send_timeout_s: Longest time a client may take for one, in seconds; seen at
            the next update.
        clock: Dates updates.

    Raises:
        ConfigError: If the interval is too short to be of use to a person.
    """

    def __init__(
        self,
        source: Source,
        *,
        interval_s: float = INTERVAL_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not interval_s >= INTERVAL_MIN_S:
            msg = f"interval_s must be >= {INTERVAL_MIN_S}, got {interval_s}"
            raise ConfigError(msg)
        self._source = source
        self._interval_s = interval_s
        self._send_timeout_s = send_timeout_s
        self._clock = clock
        self._clients: dict[_Client, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._sequence = 0
        self.dropped_count = 0

    @property
    def clients_count(self) -> int:
        """Clients that watch now."""
        return len(self._clients)

    async def update(self) -> MetricsUpdate:
        """Look once, without blocking the event loop."""
        data = await asyncio.to_thread(self._source.live)
        self._sequence += 1
        return MetricsUpdate(
            sequence=self._sequence, timestamp=self._clock.now(), data=data
        )

    async def serve(self, websocket: WebSocket) -> None:
        """Send updates to one client until it leaves or is too slow."""
        await websocket.accept()
        if len(self._clients) >= CLIENTS_MAX:
            await websocket.close(TRY_AGAIN_LATER, f"{CLIENTS_MAX} clients watch")
            return
        client = _Client(websocket)
        listening = asyncio.create_task(self._listen(websocket))
        sending = asyncio.create_task(_send(client))
        self._clients[client] = sending
        try:
            client.offer((await self.update()).model_dump_json())
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look_on())
            await asyncio.wait({listening, sending}, return_when="FIRST_COMPLETED")
        finally:
            del self._clients[client]
            has_ended = sending.done() and not sending.cancelled()
            for task in (listening, sending):
                task.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)
        if has_ended or client.is_stuck:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
                await asyncio.wait_for(websocket.close(TRY_AGAIN_LATER), 1.0)

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        while self._clients:
            begun_s = loop.time()
            # From the start of a look: a slow one makes updates late, not fewer.
            try:
                text = (await self.update()).model_dump_json()
            except Exception:
                logger.exception("no figures for those who watch")
            else:
                for client in self._clients:
                    client.offer(text)
            self._drop_stuck(loop.time())
            await asyncio.sleep(max(0.0, self._interval_s - (loop.time() - begun_s)))

    def _drop_stuck(self, now_s: float) -> None:
        """Give up those that take no updates. One timer for all costs each nothing."""
        for client, sending in self._clients.items():
            since_s = client.sending_since_s
            if since_s is None or now_s - since_s <= self._send_timeout_s:
                continue
            if not client.is_stuck:
                client.is_stuck = True
                self.dropped_count += 1
                logger.info("a client that takes no updates is dropped")
                sending.cancel()

    async def _listen(self, websocket: WebSocket) -> None:
        """Acknowledge what a client says, and notice that it leaves."""
        while True:
            try:
                said = await websocket.receive_text()
            except (WebSocketDisconnect, RuntimeError, KeyError):
                return
            if len(said) > MESSAGE_CHARACTERS_MAX:
                return
            # Straight back: whoever floods us waits for its own answers.
            ack = Ack(echo=said, timestamp=self._clock.now())
            try:
                await asyncio.wait_for(
                    websocket.send_text(ack.model_dump_json()), self._send_timeout_s
                )
            except (TimeoutError, RuntimeError, WebSocketDisconnect, OSError):
                return


async def _send(client: _Client) -> None:
    """Send what comes, until the client is gone."""
    loop = asyncio.get_running_loop()
    while True:
        text = await client.take()
        client.sending_since_s = loop.time()
        try:
            await client.websocket.send_text(text)
        except (RuntimeError, WebSocketDisconnect, OSError):
            return
        client.sending_since_s = None
