"""What a person should be told of a stream's events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime

    from harness.spark.observing.events import StreamEvent

AlertKind = Literal["slow_batch", "falling_behind", "no_input", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A sentence on one event.

    Attributes:
        kind: Which rule it broke.
        stream: Name of the stream, or its id.
        at: When.
        message: The figures and the limit.
    """

    kind: AlertKind
    stream: str
    at: datetime
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Limits beyond which an event is an alert.

    Attributes:
        batch_duration_max_s: A micro-batch that takes longer is slow.
        input_ratio_max: Input that comes this much faster than it is processed
            piles up.
        no_input_s: Time without a row before it is said; 0 says it at once.
    """

    batch_duration_max_s: float = 30.0
    input_ratio_max: float = 1.5
    no_input_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("batch_duration_max_s", "input_ratio_max"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be > 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        if self.no_input_s < 0:
            msg = f"no_input_s must be >= 0, got {self.no_input_s}"
            raise ConfigError(msg)


@dataclass(slots=True)
class Watch:
    """Finds the alerts in the events of any number of streams, in their order.

    Attributes:
        thresholds: The limits.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    # Since when a run has had no row, and whether that was said: by run.
    _quiet_since: dict[str, datetime] = field(default_factory=dict, init=False)
    _quiet_said: set[str] = field(default_factory=set, init=False)

    def look(self, event: StreamEvent) -> list[Alert]:
        """Return what is to be said of one more event."""
        found = [*self._slow(event), *self._behind(event), *self._quiet(event)]
        if event.event_type == "terminated":
            self._quiet_since.pop(event.run_id, None)
            self._quiet_said.discard(event.run_id)
            if event.raw_progress_json:
                first = event.raw_progress_json.splitlines()[0]
                found.append(_alert("failed", event, f"ended with an error: {first}"))
        return found

    def _slow(self, event: StreamEvent) -> list[Alert]:
        limit_s = self.thresholds.batch_duration_max_s
        took_s = (event.batch_duration_ms or 0) / 1000
        if took_s <= limit_s:
            return []
        message = f"batch {event.batch_id} took {took_s:.1f} s (limit {limit_s:g} s)"
        return [_alert("slow_batch", event, message)]

    def _behind(self, event: StreamEvent) -> list[Alert]:
        came, went = event.input_rows_per_second, event.processed_rows_per_second
        if not came or not went or came <= self.thresholds.input_ratio_max * went:
            return []
        message = (
            f"{came:.0f} rows/s come in, {went:.0f} rows/s are processed "
            f"(limit {self.thresholds.input_ratio_max:g} times)"
        )
        return [_alert("falling_behind", event, message)]

    def _quiet(self, event: StreamEvent) -> list[Alert]:
        """Say once that nothing came for long; again after something came."""
        run = event.run_id
        if event.event_type == "terminated":
            return []
        if event.event_type == "started" or event.num_input_rows:
            self._quiet_since[run] = event.collection_time
            self._quiet_said.discard(run)
            return []
        since = self._quiet_since.setdefault(run, event.collection_time)
        quiet_s = (event.collection_time - since).total_seconds()
        if quiet_s < self.thresholds.no_input_s or run in self._quiet_said:
            return []
        self._quiet_said.add(run)
        return [_alert("no_input", event, f"no row for {quiet_s:.0f} s")]


def _alert(kind: AlertKind, event: StreamEvent, message: str) -> Alert:
    return Alert(
        kind=kind,
        stream=event.stream_name or event.stream_id,
        at=event.collection_time,
        message=message,
    )
