"""What can go wrong between a client and a server, and when."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.lakebase.standin.timetables import (
    LATEST_S,
    check_flag,
    check_number,
    mapping_of,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXAMPLE = '{"at_s": 2, "latency_s": 0.05}'


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """The state of a network; `Fault()` is a healthy one.

    Attributes:
        latency_s: Added to each direction, in seconds.
        jitter_s: Most that is added at random on top; order is kept.
        bandwidth_bytes_per_s: Limit of each direction of each connection.
        black_hole: Nothing arrives, neither bytes nor the end of a connection; new
            connections are accepted and stay silent. What was sent meanwhile
            arrives when the fault ends, as retransmission would have it.
        refuse: New connections are reset.
        reset: Open connections are reset, once, when the fault begins.
        half_open: Open connections lose their server, once, and are not told.
        share: Part of the open connections that `reset` and `half_open` hit, 0-1.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    black_hole: bool = False
    refuse: bool = False
    reset: bool = False
    half_open: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        check_number("latency_s", self.latency_s)
        check_number("jitter_s", self.jitter_s)
        bandwidth = self.bandwidth_bytes_per_s
        if bandwidth is not None:
            check_number("bandwidth_bytes_per_s", bandwidth)
            if bandwidth == 0:
                msg = "bandwidth_bytes_per_s must be > 0, got 0; see black_hole"
                raise ConfigError(msg)
        check_number("share", self.share, high=1.0)
        for name in ("black_hole", "refuse", "reset", "half_open"):
            check_flag(name, getattr(self, name))

    def __str__(self) -> str:
        """Return what differs from a healthy network."""
        healthy = {f.name: f.default for f in dataclasses.fields(self)}
        told = [
            f"{name}={value}"
            for name, value in dataclasses.asdict(self).items()
            if value != healthy[name]
        ]
        return " ".join(told) or "healthy"


@dataclass(frozen=True, slots=True)
class Timed:
    """A fault and when it begins; it lasts until the next one does.

    Attributes:
        at_s: Seconds from the start of the timetable.
        fault: What the network is like from then on.
    """

    at_s: float
    fault: Fault

    def to_mapping(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"at_s": self.at_s, **dataclasses.asdict(self.fault)}


def read_timetable(rows: Iterable[Mapping[str, Any]]) -> list[Timed]:
    """Return a timetable from rows such as `{"at_s": 2, "latency_s": 0.05}`.

    Raises:
        ConfigError: A row is wrong, or they are not in order.
    """
    timetable: list[Timed] = []
    known = {"at_s", *(field.name for field in dataclasses.fields(Fault))}
    for row in rows_of(rows, example=EXAMPLE):
        mapping_of(row, example=EXAMPLE)
        unknown = sorted(set(row) - known)
        if unknown or "at_s" not in row:
            msg = (
                f"a row of a timetable needs at_s and may have {sorted(known)}, "
                f"got {dict(row)}"
            )
            raise ConfigError(msg)
        values = {name: value for name, value in row.items() if name != "at_s"}
        check_number("at_s of a fault", row["at_s"], high=LATEST_S)
        timetable.append(Timed(float(row["at_s"]), Fault(**values)))
    times = [timed.at_s for timed in timetable]
    if times != sorted(times):
        msg = f"a timetable's at_s must be in order, got {times}"
        raise ConfigError(msg)
    return timetable


def random_timetable(
    seed: int, *, duration_s: float, faults: int = 10, reset_share: float = 0.5
) -> list[Timed]:
    """Return a timetable of faults drawn at random; the same for the same seed.

    Each fault lasts a part of its share of the time and is followed by health, so
    that whoever survives it can be seen to recover; the end is always healthy.
    """
    draw = random.Random(seed)  # noqa: S311 - a plan, no secret
    each_s = duration_s / max(1, faults)
    timetable: list[Timed] = []
    for index in range(faults):
        begin_s = (index + draw.uniform(0, 0.4)) * each_s
        end_s = (index + draw.uniform(0.5, 0.9)) * each_s
        fault = draw.choice(
            (
                Fault(latency_s=draw.uniform(0.001, 0.02), jitter_s=0.01),
                Fault(bandwidth_bytes_per_s=draw.uniform(50_000, 500_000)),
                Fault(black_hole=True),
                Fault(refuse=True),
                Fault(reset=True, share=reset_share),
                Fault(reset=True, refuse=True),
            )
        )
        timetable += [Timed(begin_s, fault), Timed(end_s, Fault())]
    return timetable
