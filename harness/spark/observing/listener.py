"""The listener that Spark calls: it notes, and leaves the work to another thread."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pyspark.sql.streaming.listener import (
    JStreamingQueryListener,
    QueryProgressEvent,
    StreamingQueryListener,
)

from harness.clock import SYSTEM_CLOCK, Clock
from harness.spark.observing import events
from harness.spark.observing.alerts import Alert, Thresholds, Watch
from harness.spark.observing.recorder import Delivery, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.listener import (
        QueryIdleEvent,
        QueryStartedEvent,
        QueryTerminatedEvent,
    )

    from harness.spark.observing.events import StreamEvent

_LOG = logging.getLogger(__name__)
_ALERTS_KEPT = 100
_LAST_EVENTS_TIMEOUT_S = 10.0


class StreamObserver(StreamingQueryListener):
    """Notes what happens to every stream of a session.

    Spark calls `onQueryStarted` on the thread that starts a stream, and the others on
    one thread for all streams: so nothing in here runs a Spark job, waits or raises.

    Args:
        recorder: Takes the events; None keeps only the summary and the alerts.
        thresholds: Limits of the alerts.
        on_alert: Told each alert, on Spark's listener thread: it must not wait.
        clock: Time of the events.
    """

    def __init__(
        self,
        recorder: Recorder | None = None,
        *,
        thresholds: Thresholds | None = None,
        on_alert: Callable[[Alert], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        self._recorder = recorder
        self._watch = Watch(thresholds or Thresholds())
        self._on_alert = on_alert or _log_alert
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._errors_count = 0
        # Names of the streams that run, by run id.
        self._running: dict[str, str | None] = {}
        self._ended = threading.Condition(self._lock)
        self.alerts: deque[Alert] = deque(maxlen=_ALERTS_KEPT)

    @property
    def _jlistener(self) -> Any:
        """What pyspark registers with its JVM; over Spark Connect it asks for none."""
        from pyspark import SparkContext

        if not hasattr(self, "_jlistenerobj"):
            wrapper = SparkContext._jvm.PythonStreamingQueryListenerWrapper  # type: ignore[union-attr] # noqa: SLF001
            self._jlistenerobj = wrapper(_ByJson(self))
        return self._jlistenerobj

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's
        """Note that a stream started."""
        self._note(events.started, event)

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """Note what a trigger did."""
        self._note(events.progressed, event)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """Note that a stream waits for input."""
        self._note(events.idle, event)

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """Note that a stream ended."""
        self._note(events.terminated, event)

    def summary(self) -> dict[str, Any]:
        """Return what was seen, for a report.

        Keys: `events` by type, `rows_by_stream`, `alerts` by kind, `errors_count` of
        the listener itself, and `delivery` of the recorder.
        """
        with self._lock:
            found: dict[str, Any] = {
                "events": dict(self._counts),
                "rows_by_stream": dict(self._rows),
                "alerts": dict(Counter(alert.kind for alert in self.alerts)),
                "errors_count": self._errors_count,
            }
        if self._recorder is not None:
            delivery = self._recorder.delivery()
            found["delivery"] = {
                name: getattr(delivery, name) for name in Delivery.__slots__
            }
        return found

    def wait_for_ends(self, still_active: set[str], timeout_s: float) -> bool:
        """Wait until the end of every stream that runs no more has been noted.

        Spark reports events late, on a thread of its own.

        Args:
            still_active: Run ids of the streams that go on.
            timeout_s: Longest wait, in seconds.

        Returns:
            Whether all were noted in time.
        """
        with self._ended:
            return self._ended.wait_for(
                lambda: self._running.keys() <= still_active, timeout_s
            )

    def _named(self, noted: StreamEvent) -> StreamEvent:
        """Return the event with its stream's name: Spark tells it only at times."""
        if noted.event_type == "started":
            self._running[noted.run_id] = noted.stream_name
        name = noted.stream_name or self._running.get(noted.run_id)
        return dataclasses.replace(noted, stream_name=name)

    def _note(self, make: Callable[[Any, datetime], StreamEvent], event: Any) -> None:
        try:
            noted = make(event, self._clock.now())
            with self._lock:
                self._counts[noted.event_type] += 1
                noted = self._named(noted)
                if noted.num_input_rows:
                    name = noted.stream_name or noted.stream_id
                    self._rows[name] += noted.num_input_rows
                alerts = self._watch.look(noted)
                self.alerts.extend(alerts)
            if self._recorder is not None:
                self._recorder.offer(noted)
            for alert in alerts:
                self._on_alert(alert)
            if noted.event_type == "terminated":
                with self._ended:
                    self._running.pop(noted.run_id, None)
                    self._ended.notify_all()
        except Exception:  # noqa: BLE001 - see the next line
            # A listener that raises is a nuisance to every stream of the session.
            with self._lock:
                self._errors_count += 1
            _LOG.exception("a stream event was not noted")


class _ByJson(JStreamingQueryListener):
    """Takes what a trigger did as one text.

    pyspark asks the JVM for each of its fields: some hundred calls for each progress,
    on the thread that all streams' events wait for.
    """

    def onQueryProgress(self, jevent: Any) -> None:  # noqa: N802 - Spark's
        said = json.loads(jevent.progress().json())
        self.pylistener.onQueryProgress(QueryProgressEvent.fromJson({"progress": said}))


@contextmanager
def observing(
    spark: SparkSession,
    *,
    table: str | None = None,
    thresholds: Thresholds | None = None,
    flush_s: float = 5.0,
) -> Iterator[StreamObserver]:
    """Observe every stream of a session for the length of a `with` block.

    Args:
        spark: The session.
        table: Delta table that the events are appended to, in SQL: a name, or
            delta.`/path`; made if there is none. None writes none.
        thresholds: Limits of the alerts.
        flush_s: Longest time an event waits before it is written, in seconds.
    """
    recorder = None
    if table is not None:
        spark.sql(f"CREATE TABLE IF NOT EXISTS {table} ({events.SCHEMA}) USING delta")
        recorder = Recorder(_appender(spark, table), flush_s=flush_s)
    observer = StreamObserver(recorder, thresholds=thresholds)
    spark.streams.addListener(observer)
    try:
        yield observer
    finally:
        active = {str(query.runId) for query in spark.streams.active}
        if not observer.wait_for_ends(active, _LAST_EVENTS_TIMEOUT_S):
            _LOG.warning("Spark did not report the end of every stream in time")
        spark.streams.removeListener(observer)
        if recorder is not None:
            recorder.close()


def _appender(
    spark: SparkSession, table: str
) -> Callable[[Sequence[StreamEvent]], None]:
    """Return what appends events to a Delta table, as one commit."""

    def append(noted: Sequence[StreamEvent]) -> None:
        rows = [event.row() for event in noted]
        frame = spark.createDataFrame(rows, events.SCHEMA)
        frame.writeTo(table).append()

    return append


def _log_alert(alert: Alert) -> None:
    _LOG.warning("stream %s: %s: %s", alert.stream, alert.kind, alert.message)
