"""Axes: where a value lies, and which values are worth a label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.reports.table import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# From here on a linear axis squeezes most curves into its lowest tenth.
LOG_FROM = 20.0
_TICKS_WANTED = 5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DECADES_ALL = 4
# A log axis shorter than this gets its steps of 2 and 5 labelled as well.
_DECADES_FEW = 2
_THOUSAND = 1000.0
# No clock and no counter gives what lies outside: it is drawn at the edge.
_VALUE_MIN, _VALUE_MAX = 1e-15, 1e15


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis.

    Attributes:
        low: The value at its beginning.
        high: The value at its end; above *low*.
        kind: "linear", or "log" with *low* above 0.
        ticks: Labelled values.
        label: What it shows, with its unit.
    """

    low: float
    high: float
    kind: Literal["linear", "log"] = "linear"
    ticks: tuple[tuple[float, str], ...] = ()
    label: str = ""

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the beginning, 1 at the end."""
        if self.kind == "log":
            value = max(value, self.low)
            span = math.log(self.high / self.low)
            return min(1.0, math.log(value / self.low) / span)
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def axis_of(
    values: Iterable[float],
    *,
    label: str,
    text: Callable[[float], str],
    may_be_log: bool = False,
) -> Axis:
    """Return an axis that holds the values; a linear one begins at 0.

    Args:
        values: All >= 0.
        label: What they are.
        text: Makes the label of a tick.
        may_be_log: Whether to use a log axis where the values span many sizes.
    """
    found = [value for value in values if abs(value) <= _VALUE_MAX]
    high = max(found, default=1.0)
    high = high if high > _VALUE_MIN else 1.0
    positive = [value for value in found if value > _VALUE_MIN]
    low = min(positive, default=high)
    if may_be_log and high / low >= LOG_FROM:
        marks = log_ticks(low, high)
        return Axis(
            low=min(low, marks[0]) if marks else low,
            high=high * 1.05,
            kind="log",
            ticks=tuple((mark, text(mark)) for mark in marks),
            label=label,
        )
    marks = linear_ticks(0.0, high)
    return Axis(
        low=0.0,
        high=max(high * 1.04, marks[-1]),
        ticks=tuple((mark, text(mark)) for mark in marks),
        label=label,
    )


def linear_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers that span low to high."""
    raw = (high - low) / _TICKS_WANTED
    if raw <= 0:
        return [low]
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * s for s in _STEPS if size * s >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, and their steps of 2 and 5 where there is room."""
    decades = math.log10(high / low)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if decades > _DECADES_ALL:
        stride = math.ceil(decades / _TICKS_WANTED)
        marks = [10.0**e for e in range(first, last + 1, stride)]
    else:
        steps = (1.0, 2.0, 5.0) if decades < _DECADES_FEW else (1.0,)
        marks = [s * 10.0**e for e in range(first, last + 1) for s in steps]
    return [mark for mark in marks if low * 0.999 <= mark <= high * 1.05]


def duration_text(seconds: float) -> str:
    """Return a duration in the unit that suits it: "2.71 µs"."""
    if seconds == 0:
        return "0"
    return format_duration(seconds).replace(" us", " µs")


def figure_text(seconds: float) -> str:
    """Return a duration for a column of figures: always three digits, "2.10 ms"."""
    if seconds == 0:
        return "0"
    number, unit = duration_text(seconds).split(" ")
    return f"{float(number):#.3g}".rstrip(".") + f" {unit}"


def count_text(value: float) -> str:
    """Return a count with at most three digits: "14.2 k"."""
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def seconds_text(value: float) -> str:
    """Return a number of seconds as people read it on a time axis."""
    return f"{value:,.6g} s" if value < _THOUSAND else f"{value / 60:,.4g} min"
