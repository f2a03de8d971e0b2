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
# Updates that wait for one client; the oldest gives way, for only the last counts.
BACKLOG_MAX = 1
MESSAGE_CHARACTERS_MAX = 4096
TRY_AGAIN_LATER = 1013

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Where figures come from. May read files or take locks: never the event loop."""

    def live(self) -> LiveData:
        """Return what is so now."""
        ...


class Broadcaster:
    """Looks at a source while anybody watches, and sends what it sees to all.

    However many watch, there is one look a tick, on a thread, and one encoding.
    With nobody watching there is none at all.

    Args:
        source: Where figures come from.
        interval_s: Time between two updates, in seconds.
        send_timeout_s: Longest time a client may take for one, in seconds.
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
        self._queues: set[asyncio.Queue[str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._sequence = 0
        self.dropped_count = 0

    @property
    def clients_count(self) -> int:
        """Clients that watch now."""
        return len(self._queues)

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
        if len(self._queues) >= CLIENTS_MAX:
            await websocket.close(TRY_AGAIN_LATER, f"{CLIENTS_MAX} clients watch")
            return
        queue: asyncio.Queue[str] = asyncio.Queue(BACKLOG_MAX)
        self._queues.add(queue)
        listening = asyncio.create_task(self._listen(websocket))
        sending = asyncio.create_task(self._send(websocket, queue))
        try:
            _replace(queue, (await self.update()).model_dump_json())
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._look_on())
            await asyncio.wait({listening, sending}, return_when="FIRST_COMPLETED")
        finally:
            self._queues.discard(queue)
            for task in (listening, sending):
                task.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)
        if sending.done() and not sending.cancelled():
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
                await asyncio.wait_for(websocket.close(TRY_AGAIN_LATER), 1.0)

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queues:
            begun_s = loop.time()
            # From the start of a look: a slow one makes updates late, not fewer.
            try:
                text = (await self.update()).model_dump_json()
            except Exception:
                logger.exception("no figures for those who watch")
            else:
                for queue in self._queues:
                    _replace(queue, text)
            await asyncio.sleep(max(0.0, self._interval_s - (loop.time() - begun_s)))

    async def _send(self, websocket: WebSocket, queue: asyncio.Queue[str]) -> None:
        """Send what comes; end when the client takes too long or is gone."""
        while True:
            text = await queue.get()
            try:
                await asyncio.wait_for(websocket.send_text(text), self._send_timeout_s)
            except TimeoutError:
                self.dropped_count += 1
                logger.info("a client that takes no updates is dropped")
                return
            except (RuntimeError, WebSocketDisconnect, OSError):
                return

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


def _replace(queue: asyncio.Queue[str], text: str) -> None:
    """Put the newest in, in place of one that nobody has taken."""
    if queue.full():
        with contextlib.suppress(asyncio.QueueEmpty):
            queue.get_nowait()
    queue.put_nowait(text)
