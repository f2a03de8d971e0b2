"""Arrival schedules: when each operation should start, computed from its index."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.load.samples import Nanoseconds

# Arrivals made at a time: few enough that making them delays none by much (0.3 ms).
CHUNK = 8192
# A sine is cut into this many straight pieces per period: its rate is then within
# 0.01 % of the peak everywhere (the error of a chord, (pi / pieces)**2 / 2).
SINE_PIECES = 256


class Schedule(Protocol):
    """When operations should start; the runner asks nothing else of it."""

    @property
    def duration_s(self) -> float:
        """Length in seconds; every arrival is strictly before it."""
        ...

    @property
    def rate_per_s_max(self) -> float:
        """Highest arrival rate at any time, per second."""
        ...

    def chunks(self) -> Iterator[Nanoseconds]:
        """Yield offsets from the start of the run, in ns, non-decreasing.

        Every call yields the same arrivals.
        """
        ...

    def describe(self) -> str:
        """Return one line for a report, such as "poisson, 1000/s for 10 s, seed 1"."""
        ...


@dataclass(frozen=True, slots=True)
class RateProfile:
    """A rate over time in straight pieces; it may jump between two pieces.

    Attributes:
        pieces: (length in seconds, rate per second at its start, rate at its end).
        name: What it is called in a report.
    """

    pieces: tuple[tuple[float, float, float], ...]
    name: str

    def __post_init__(self) -> None:
        if not self.pieces:
            msg = f"{self.name}: a rate profile needs at least one piece"
            raise ConfigError(msg)
        for length_s, start_per_s, end_per_s in self.pieces:
            numbers = (length_s, start_per_s, end_per_s)
            if not all(math.isfinite(number) for number in numbers) or length_s <= 0:
                msg = f"{self.name}: duration_s must be > 0 and finite, got {length_s}"
                raise ConfigError(msg)
            if start_per_s < 0 or end_per_s < 0:
                msg = f"{self.name}: rate_per_s must be >= 0, got {numbers[1:]}"
                raise ConfigError(msg)
        if not any(start + end > 0 for _, start, end in self.pieces):
            msg = f"{self.name}: rate_per_s must be > 0 somewhere"
            raise ConfigError(msg)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return math.fsum(length for length, _, _ in self.pieces)

    @property
    def rate_per_s_max(self) -> float:
        """Highest rate at any time."""
        return max(max(start, end) for _, start, end in self.pieces)

    @property
    def expected_count(self) -> float:
        """Arrivals to be expected: the integral of the rate."""
        return math.fsum(length * (a + b) / 2 for length, a, b in self.pieces)

    def times_s(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return when the expected number of arrivals reaches each of *counts*.

        The inverse of the integral of the rate; in a piece that starts at rate a and
        changes by s per second, a*t + s*t**2/2 = c gives
        t = 2c / (a + sqrt(a**2 + 2*s*c)), which is exact for s = 0 too.
        """
        lengths = np.array([piece[0] for piece in self.pieces])
        rates = np.array([piece[1] for piece in self.pieces])
        slopes = np.array([(b - a) / length for length, a, b in self.pieces])
        areas = np.array([length * (a + b) / 2 for length, a, b in self.pieces])
        starts_s = np.concatenate(([0.0], np.cumsum(lengths)[:-1]))
        before = np.concatenate(([0.0], np.cumsum(areas)[:-1]))
        # The last piece that starts at or before the count; pieces at rate 0 hold
        # no arrival and are stepped over.
        piece = np.searchsorted(before + areas, counts, side="right")
        piece = np.minimum(piece, len(lengths) - 1)
        within = counts - before[piece]
        rate, slope = rates[piece], slopes[piece]
        root = np.sqrt(np.maximum(rate**2 + 2 * slope * within, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            offset_s = np.where(within > 0, 2 * within / (rate + root), 0.0)
        found: npt.NDArray[np.float64] = starts_s[piece] + offset_s
        return found


def constant_rate(*, rate_per_s: float, duration_s: float) -> RateProfile:
    """The same rate all the time."""
    piece = (duration_s, rate_per_s, rate_per_s)
    return RateProfile((piece,), f"{rate_per_s:g}/s for {duration_s:g} s")


def ramp(*, from_per_s: float, to_per_s: float, duration_s: float) -> RateProfile:
    """A rate that rises or falls evenly."""
    return RateProfile(
        ((duration_s, from_per_s, to_per_s),),
        f"ramp {from_per_s:g} to {to_per_s:g}/s in {duration_s:g} s",
    )


def steps(*, rates_per_s: Sequence[float], step_s: float) -> RateProfile:
    """One rate after the other, each for *step_s* seconds."""
    listed = ", ".join(f"{rate:g}" for rate in rates_per_s)
    return RateProfile(
        tuple((step_s, rate, rate) for rate in rates_per_s),
        f"steps {listed}/s of {step_s:g} s",
    )


def spike(
    *,
    base_per_s: float,
    peak_per_s: float,
    before_s: float,
    spike_s: float,
    after_s: float,
) -> RateProfile:
    """A base rate that jumps to a peak and back."""
    return RateProfile(
        (
            (before_s, base_per_s, base_per_s),
            (spike_s, peak_per_s, peak_per_s),
            (after_s, base_per_s, base_per_s),
        ),
        f"spike {base_per_s:g} to {peak_per_s:g}/s for {spike_s:g} s",
    )


def sine(
    *, mean_per_s: float, amplitude_per_s: float, period_s: float, duration_s: float
) -> RateProfile:
    """A rate that swings around its mean, as traffic does over a day.

    Starts at the mean, rising. In straight pieces: see `SINE_PIECES`.
    """
    if not 0 <= amplitude_per_s <= mean_per_s:
        msg = (
            f"amplitude_per_s must be in 0..mean_per_s={mean_per_s}, "
            f"got {amplitude_per_s}"
        )
        raise ConfigError(msg)
    if period_s <= 0 or duration_s <= 0:
        msg = f"period_s and duration_s must be > 0, got {period_s} and {duration_s}"
        raise ConfigError(msg)

    def rate(at_s: float) -> float:
        return mean_per_s + amplitude_per_s * math.sin(2 * math.pi * at_s / period_s)

    count = max(1, math.ceil(duration_s / period_s * SINE_PIECES))
    step_s = duration_s / count
    # A sine that touches zero must not dip below it by rounding.
    pieces = tuple(
        (step_s, max(0.0, rate(i * step_s)), max(0.0, rate((i + 1) * step_s)))
        for i in range(count)
    )
    return RateProfile(
        pieces,
        f"sine {mean_per_s:g} +- {amplitude_per_s:g}/s, period {period_s:g} s",
    )


@dataclass(frozen=True, slots=True)
class RegularArrivals:
    """Arrivals evenly spread over a profile: arrival i where the integral reaches i.

    Each time is computed from its index, never from the time before, so rounding
    errors do not accumulate over a long run.
    """

    profile: RateProfile

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.profile.duration_s

    @property
    def rate_per_s_max(self) -> float:
        """Highest arrival rate at any time, per second."""
        return self.profile.rate_per_s_max

    def chunks(self) -> Iterator[Nanoseconds]:
        """Yield offsets from the start of the run, in ns, non-decreasing."""
        # An arrival at the very end would be outside: the end is exclusive.
        count = math.ceil(self.profile.expected_count - 1e-9)
        for first in range(0, count, CHUNK):
            index = np.arange(first, min(first + CHUNK, count), dtype=np.float64)
            yield _before(self.profile.times_s(index), self.duration_s)

    def describe(self) -> str:
        """Return one line for a report."""
        return f"constant spacing, {self.profile.name}"


@dataclass(frozen=True, slots=True)
class PoissonArrivals:
    """Independent arrivals: what many users who know nothing of each other make.

    A Poisson process of unit rate put through the inverse of the integrated rate
    (Cinlar 1975: time rescaling), so the rate may vary over time.

    Attributes:
        profile: The rate over time.
        seed: The same seed gives the same arrivals.
    """

    profile: RateProfile
    seed: int = 1

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.profile.duration_s

    @property
    def rate_per_s_max(self) -> float:
        """Highest arrival rate at any time, per second."""
        return self.profile.rate_per_s_max

    def chunks(self) -> Iterator[Nanoseconds]:
        """Yield offsets from the start of the run, in ns, non-decreasing."""
        random = np.random.default_rng(self.seed)
        reached, expected = 0.0, self.profile.expected_count
        while reached < expected:
            counts = reached + np.cumsum(random.standard_exponential(CHUNK))
            reached = float(counts[-1])
            inside = counts[counts < expected]
            if len(inside):
                yield _before(self.profile.times_s(inside), self.duration_s)

    def describe(self) -> str:
        """Return one line for a report."""
        return f"poisson, {self.profile.name}, seed {self.seed}"


def constant_arrivals(*, rate_per_s: float, duration_s: float) -> RegularArrivals:
    """Arrivals evenly spaced at one rate.

    Raises:
        ConfigError: If *rate_per_s* or *duration_s* is not positive.
    """
    return RegularArrivals(constant_rate(rate_per_s=rate_per_s, duration_s=duration_s))


def poisson_arrivals(
    *, rate_per_s: float, duration_s: float, seed: int = 1
) -> PoissonArrivals:
    """Independent arrivals at one rate.

    Raises:
        ConfigError: If *rate_per_s* or *duration_s* is not positive.
    """
    profile = constant_rate(rate_per_s=rate_per_s, duration_s=duration_s)
    return PoissonArrivals(profile, seed)


def _before(times_s: npt.NDArray[np.float64], end_s: float) -> Nanoseconds:
    """Turn seconds into nanoseconds, keeping the order and the exclusive end."""
    offsets_ns = np.minimum(
        (times_s * NS_PER_S).astype(np.int64), math.ceil(end_s * NS_PER_S) - 1
    )
    return np.maximum.accumulate(offsets_ns)
