"""The plan of an experiment, declared before its first run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.errors import ConfigError

PAIRS_DEFAULT = 12
PAIRS_MAX = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One run of each side, one right after the other.

    Attributes:
        index: Its number, from 0.
        order: "AB" or "BA".
        hash_seed: PYTHONHASHSEED of both runs: equal within the pair, so that it
            explains no difference, and another one in the next, so that no verdict
            hangs on one layout.
    """

    index: int
    order: str
    hash_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Pairs and the numbers of pairs at which the verdict is looked at.

    Looking more than once gives chance more than one go, so each of k looks gets a
    k-th of the level.

    Attributes:
        pairs: All pairs, in their order.
        looks: Numbers of pairs, ascending; the last is the end in any case.
        seed: What the order and the hash seeds were drawn with.
    """

    pairs: tuple[Pair, ...]
    looks: tuple[int, ...]
    seed: int

    @property
    def rule(self) -> str:
        """The stopping rule, in words."""
        if len(self.looks) == 1:
            return f"{self.looks[0]} pairs, one look at the end"
        looks = ", ".join(str(look) for look in self.looks)
        return (
            f"looks after {looks} pairs, each at 1/{len(self.looks)} of the level; "
            "ends early only when every case is settled"
        )


def make_schedule(*, pairs: int, pairs_max: int | None, seed: int) -> Schedule:
    """Draw the order of the runs: half AB, half BA, shuffled.

    Args:
        pairs: Pairs before the first look.
        pairs_max: Pairs at which it ends unsettled; None for one look only.
        seed: Makes the drawing repeatable.

    Raises:
        ConfigError: If the numbers cannot be.
    """
    last = pairs if pairs_max is None else pairs_max
    if not 1 <= pairs <= last <= PAIRS_MAX:
        msg = (
            f"pairs must be from 1 to {PAIRS_MAX} and not above the maximum, got "
            f"pairs={pairs} and a maximum of {last}"
        )
        raise ConfigError(msg)
    looks = [*range(pairs, last, pairs), last]
    rng = np.random.default_rng(seed)
    # Balanced in each stretch between two looks, for the odd one left to chance.
    orders: list[str] = []
    for begin, end in zip([0, *looks], looks, strict=False):
        count = end - begin
        half = ["AB", "BA"] * (count // 2)
        half += [str(rng.choice(["AB", "BA"]))] * (count % 2)
        orders += [half[i] for i in rng.permutation(count)]
    seeds = rng.integers(1, 2**32 - 1, size=last)
    return Schedule(
        pairs=tuple(
            Pair(index=i, order=order, hash_seed=int(seeds[i]))
            for i, order in enumerate(orders)
        ),
        looks=tuple(looks),
        seed=seed,
    )
