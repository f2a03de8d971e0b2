"""What happens to a compute, and when: suspensions, failovers, other sizes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.lakebase.standin.timetables import (
    LATEST_S,
    check_number,
    mapping_of,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CU_MIN = 0.5
EXAMPLE = '{"at_s": 2, "do": "suspend"}'
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
        check_number("at_s of an event", self.at_s, high=LATEST_S)
        if self.do not in DOINGS:
            msg = f"an event must do one of {', '.join(DOINGS)}, got {self.do!r}"
            raise ConfigError(msg)
        if (self.do == "resize") != (self.cu is not None):
            msg = f"cu belongs to resize, and resize needs it; got do={self.do!r}, "
            raise ConfigError(msg + f"cu={self.cu}")
        if self.cu is not None:
            check_number("cu of an event", self.cu, low=CU_MIN)


def read_events(rows: Iterable[Mapping[str, Any] | Event]) -> list[Event]:
    """Return events from rows such as `{"at_s": 2, "do": "suspend"}`.

    Raises:
        ConfigError: A row is wrong, or they are not in order.
    """
    known = {field.name for field in dataclasses.fields(Event)}
    events: list[Event] = []
    for row in rows_of(rows, example=EXAMPLE):
        if isinstance(row, Event):
            events.append(row)
            continue
        mapping_of(row, example=EXAMPLE)
        if not {"at_s", "do"} <= set(row) <= known:
            msg = f"an event needs at_s and do, and may have cu; got {dict(row)}"
            raise ConfigError(msg)
        events.append(Event(**row))
    times = [event.at_s for event in events]
    if times != sorted(times):
        msg = f"the events must be in the order of their at_s, got {times}"
        raise ConfigError(msg)
    return events
