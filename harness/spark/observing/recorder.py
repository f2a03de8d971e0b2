"""Events on their way to a table: a bounded queue and a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.spark.observing.events import StreamEvent

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What became of the events: offered = written + dropped + pending.

    Attributes:
        offered: Events handed over.
        written: Events in the table.
        dropped: Events lost: the queue was full, or the recorder disabled or closed.
        pending: Events in the queue, or in a write that is not over.
        failures: Writes that failed.
        disabled: Whether it gave up, after too many of them in a row.
    """

    offered: int
    written: int
    dropped: int
    pending: int
    failures: int
    disabled: bool


class Recorder:
    """Takes events without ever waiting or raising; writes them on its own thread.

    A failed write is tried again with the next ones; after *failures_max* in a row
    the recorder disables itself: a metrics table that is broken must not go on
    costing a stream.

    Args:
        write: Writes events; raises if it cannot.
        capacity: Events kept at most; those beyond are dropped and counted.
        flush_s: Longest time an event waits for others, in seconds.
        failures_max: Failed writes in a row that disable it.
    """

    def __init__(
        self,
        write: Callable[[Sequence[StreamEvent]], None],
        *,
        capacity: int = 10_000,
        flush_s: float = 5.0,
        failures_max: int = 10,
    ) -> None:
        for name, value in (("capacity", capacity), ("failures_max", failures_max)):
            if value < 1:
                msg = f"{name} must be >= 1, got {value}"
                raise ConfigError(msg)
        if flush_s <= 0:
            msg = f"flush_s must be > 0, got {flush_s}"
            raise ConfigError(msg)
        self._write = write
        self._capacity = capacity
        self._flush_s = flush_s
        self._failures_max = failures_max
        self._queue: queue.SimpleQueue[StreamEvent] = queue.SimpleQueue()
        self._batch: list[StreamEvent] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._offered = self._written = self._dropped = 0
        self._failures = self._failures_in_row = 0
        self._disabled = False
        self._thread = threading.Thread(
            target=self._run, name="stream-recorder", daemon=True
        )
        self._thread.start()

    def offer(self, event: StreamEvent) -> None:
        """Hand over an event; returns at once, whatever becomes of it."""
        with self._lock:
            self._offered += 1
            pending = self._offered - self._written - self._dropped - 1
            if self._disabled or self._closing or pending >= self._capacity:
                self._dropped += 1
                return
            self._queue.put(event)

    def delivery(self) -> Delivery:
        """Return what became of the events so far."""
        with self._lock:
            return Delivery(
                offered=self._offered,
                written=self._written,
                dropped=self._dropped,
                pending=self._offered - self._written - self._dropped,
                failures=self._failures,
                disabled=self._disabled,
            )

    def close(self, timeout_s: float = 30.0) -> Delivery:
        """Write what is left, end the thread, and say what became of all events.

        Args:
            timeout_s: Longest wait for the last write, in seconds.
        """
        with self._lock:
            self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _LOG.warning("the last write of stream events is not over; not waiting")
        return self.delivery()

    def _run(self) -> None:
        while not self._disabled:
            self._wake.wait(self._flush_s)
            with self._lock:
                closing = self._closing
            self._flush()
            # A write that failed at the end is tried until it disables itself.
            if closing and not self._batch:
                return

    def _flush(self) -> None:
        while not self._queue.empty():
            self._batch.append(self._queue.get())
        if not self._batch:
            return
        try:
            self._write(self._batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, streams go on
            self._failed(error)
        else:
            with self._lock:
                self._written += len(self._batch)
                self._failures_in_row = 0
            self._batch = []

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._failures += 1
            self._failures_in_row += 1
            disabled = self._failures_in_row >= self._failures_max
            if disabled:
                self._disabled = True
                # What is in the queue or failed to be written is lost, and counted.
                self._dropped = self._offered - self._written
        _LOG.warning("stream events were not written: %s", type(error).__name__)
        if disabled:
            _LOG.error(
                "recording of stream events is off after %d failures in a row; the "
                "last one: %s",
                self._failures_max,
                error,
            )
