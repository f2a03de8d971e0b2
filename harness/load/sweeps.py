"""Sweeps: one run per combination of values, repeated, in an order left to chance."""

from __future__ import annotations

import itertools
import random
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Outcome = TypeVar("Outcome")

# Its name and value of everything that is varied: {"pool_size": 8, "threads": 16}.
Point = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRun(Generic[Outcome]):
    """One run of a sweep.

    Attributes:
        point: What was varied, at its value here.
        block: Which repeat, from 0.
        outcome: What the run returned.
    """

    point: Point
    block: int
    outcome: Outcome


def doubling(first: int, last: int) -> list[int]:
    """Return first, twice it and so on, and *last*: for pool sizes and thread counts.

    Evenly spaced on the scale on which throughput bends.

    Raises:
        ConfigError: If not 1 <= first <= last.
    """
    if not 1 <= first <= last:
        msg = f"needs 1 <= first <= last, got {first} and {last}"
        raise ConfigError(msg)
    count = (last // first).bit_length()
    values = [first << i for i in range(count)]
    return values if values[-1] == last else [*values, last]


def combinations(**values: Sequence[Any]) -> list[Point]:
    """Return every combination: `combinations(pool_size=[4, 8], threads=[1, 16])`.

    Raises:
        ConfigError: If a name has no values, or one twice.
    """
    for name, listed in values.items():
        if not listed or len(set(listed)) < len(listed):
            msg = f"{name} needs values, each once, got {list(listed)}"
            raise ConfigError(msg)
    return [
        dict(zip(values, point, strict=True))
        for point in itertools.product(*values.values())
    ]


def blocked_order(
    points: Sequence[Point], *, repeats: int, seed: int
) -> list[tuple[int, Point]]:
    """Return (block, point) in the order to run: each point once a block, shuffled.

    A machine that gets slower by the hour then slows every point alike, instead of
    those that come last; and what the blocks differ by is known and can be taken
    out (Fisher's randomised blocks).

    Raises:
        ConfigError: If there is no point or *repeats* is below 1.
    """
    if not points or repeats < 1:
        msg = f"needs points and repeats >= 1, got {len(points)} and {repeats}"
        raise ConfigError(msg)
    chance = random.Random(seed)  # noqa: S311  # reproducible is the point
    order = []
    for block in range(repeats):
        shuffled = list(points)
        chance.shuffle(shuffled)
        order += [(block, point) for point in shuffled]
    return order


def run_sweep(
    run: Callable[..., Outcome],
    points: Sequence[Point],
    *,
    repeats: int = 3,
    seed: int = 1,
) -> list[SweepRun[Outcome]]:
    """Run every point *repeats* times, as `run(**point)`, in `blocked_order`.

    Raises:
        ConfigError: See `blocked_order`.
        BaseException: What a run raised; it ends the sweep.
    """
    return [
        SweepRun(point=point, block=block, outcome=run(**point))
        for block, point in blocked_order(points, repeats=repeats, seed=seed)
    ]


def medians(
    runs: Sequence[SweepRun[Outcome]], *, by: str, of: Callable[[Outcome], float]
) -> Mapping[Any, float]:
    """Return the median of a figure for each value of one name, in its order.

    Medians, because one disturbed repeat of three does not move them. Where other
    names vary too, pass the runs of one value of each.

    Args:
        runs: What `run_sweep` returned.
        by: The name whose values are the keys, such as "threads".
        of: The figure of an outcome, such as its throughput.
    """
    figures: dict[Any, list[float]] = {}
    for run in runs:
        figures.setdefault(run.point[by], []).append(of(run.outcome))
    return {value: statistics.median(figures[value]) for value in sorted(figures)}
