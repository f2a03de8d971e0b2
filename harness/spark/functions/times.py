"""Hours of a range, and how long a function took."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HourlyRange:
    """Whole hours between two times.

    Attributes:
        start: First hour, inclusive.
        end: End of the last hour, exclusive.
        hours: The start of each hour.
    """

    start: datetime
    end: datetime
    hours: tuple[datetime, ...]


def get_start_date_and_end_date_and_list_of_hourly_timestamps(
    start: datetime, end: datetime
) -> HourlyRange:
    """Return the hours that cover a range: from the hour of *start* on, before *end*.

    Hours are steps of absolute time, so none is missing or double where clocks are
    changed: times must carry their zone.

    Raises:
        ConfigError: If a time has no zone, or *end* is not after *start*.
    """
    for name, value in (("start", start), ("end", end)):
        if value.utcoffset() is None:
            msg = f"{name} must have a time zone, got {value.isoformat()}"
            raise ConfigError(msg)
    if end <= start:
        msg = f"end must be after start={start.isoformat()}, got {end.isoformat()}"
        raise ConfigError(msg)
    # The hour begins by the clock of its zone, which may be half an hour off UTC's;
    # from there on seconds since 1970 count, which know no summer time.
    first_s = start.replace(minute=0, second=0, microsecond=0).timestamp()
    count = -int(-(end.timestamp() - first_s) // 3600)
    hours = tuple(
        datetime.fromtimestamp(first_s + 3600 * index, tz=start.tzinfo)
        for index in range(count)
    )
    last = datetime.fromtimestamp(first_s + 3600 * count, tz=start.tzinfo)
    return HourlyRange(start=hours[0], end=last, hours=hours)


def custom_timer(
    function: Callable[P, T], *, clock: Clock = SYSTEM_CLOCK
) -> Callable[P, T]:
    """Log how long each call took, whether it returned or raised.

    A decorator. The record has `operation` and `duration_ms` as fields.
    """

    @functools.wraps(function)
    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        begun_ns = clock.monotonic_ns()
        try:
            return function(*args, **kwargs)
        finally:
            duration_s = (clock.monotonic_ns() - begun_ns) / NS_PER_S
            name = getattr(function, "__qualname__", repr(function))
            _LOG.info(
                "%s took %.3f s",
                name,
                duration_s,
                extra={"operation": name, "duration_ms": duration_s * 1000},
            )

    return timed
