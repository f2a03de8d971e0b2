"""What happens to a compute, and when: suspensions, failovers, other sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOINGS = ("suspend", "fail_over", "resize", "revoke_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happens.

    Attributes:
        at_s: Seconds from the start of the list.
        do: `suspend`, `fail_over`, `resize` or `revoke_tokens`.
        cu: The new size, for `resize` alone.
    """

    at_s: float
    do: str
    cu: float | None = None

    def __post_init__(self) -> None:
        if self.at_s < 0:
            msg = f"at_s of an event must be >= 0, got {self.at_s}"
            raise ConfigError(msg)
        if self.do not in DOINGS:
            msg = f"an event must do one of {', '.join(DOINGS)}, got {self.do!r}"
            raise ConfigError(msg)
        if (self.do == "resize") != (self.cu is not None):
            msg = f"cu belongs to resize, and resize needs it; got do={self.do!r}, "
            raise ConfigError(msg + f"cu={self.cu}")


def read_events(rows: Iterable[Mapping[str, Any] | Event]) -> list[Event]:
    """Return events from rows such as `{"at_s": 2, "do": "suspend"}`.

    Raises:
        ConfigError: A row is wrong, or they are not in order.
    """
    known = {field.name for field in dataclasses.fields(Event)}
    events: list[Event] = []
    for row in rows:
        if isinstance(row, Event):
            events.append(row)
            continue
        if not {"at_s", "do"} <= set(row) <= known:
            msg = f"an event needs at_s and do, and may have cu; got {dict(row)}"
            raise ConfigError(msg)
        events.append(Event(**row))
    times = [event.at_s for event in events]
    if times != sorted(times):
        msg = f"the events must be in the order of their at_s, got {times}"
        raise ConfigError(msg)
    return events
