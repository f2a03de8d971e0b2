"""Which key comes next: seeded distributions over 0 to count - 1."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Block = npt.NDArray[np.int64]

# A block costs numpy some 10 us of overhead; more keys at once than this only
# delay the first one.
BLOCK_SIZE = 4096
THETA = 0.99
# YCSB scrambles ranks of ten thousand million items whatever the table holds.
SCRAMBLED_RANKS = 10_000_000_000
# Summed one by one up to here; beyond, Euler and Maclaurin's formula is exact to
# the last bits of a float.
ZETA_SUMMED = 1_000
FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3


class Keys(Protocol):
    """A distribution of keys."""

    @property
    def count(self) -> int:
        """How many keys there are; they start at 0."""
        ...

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end, the same ones for the same seed."""
        ...


def key_source(keys: Keys, *, seed: int, worker: int = 0) -> Callable[[], int]:
    """Return a function that gives the next key of one worker.

    Keys are drawn a block at a time and handed out by C code: 0.04 us a key for
    `Sequential`, 0.05 us for `Uniform` and `Zipf`, 0.06 us for scrambled Zipf, block
    included. Not shared between threads.

    Args:
        keys: The distribution.
        seed: Seed of the run.
        worker: Index of the worker; each has a stream of its own.
    """
    blocks = keys.blocks(np.random.default_rng([seed, worker]))
    return chain.from_iterable(block.tolist() for block in blocks).__next__


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Every key is as likely as any other.

    Attributes:
        count: How many keys there are.
    """

    count: int

    def __post_init__(self) -> None:
        _check_count(self.count)

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end."""
        while True:
            yield generator.integers(self.count, size=BLOCK_SIZE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequential:
    """One key after the other, round and round.

    Each worker begins at a key drawn from its own seed: workers that walk the
    keys in step would read from the cache what the one before them has fetched.

    Attributes:
        count: How many keys there are.
        first: The key to begin with; None to draw it.
    """

    count: int
    first: int | None = None

    def __post_init__(self) -> None:
        _check_count(self.count)

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end."""
        drawn = int(generator.integers(self.count))
        start = drawn if self.first is None else self.first
        while True:
            yield (start + np.arange(BLOCK_SIZE, dtype=np.int64)) % self.count
            start = (start + BLOCK_SIZE) % self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class HotSet:
    """A share of the keys gets most of the traffic: the first ones.

    Attributes:
        count: How many keys there are.
        hot_share: Share of the keys that is hot, above 0 and below 1.
        hot_probability: Share of the draws that go to them, 0 to 1.
    """

    count: int
    hot_share: float = 0.2
    hot_probability: float = 0.8

    def __post_init__(self) -> None:
        _check_count(self.count, least=2)
        if not 0 < self.hot_share < 1:
            msg = f"hot_share must be above 0 and below 1, got {self.hot_share}"
            raise ConfigError(msg)
        if not 0 <= self.hot_probability <= 1:
            msg = f"hot_probability must be 0 to 1, got {self.hot_probability}"
            raise ConfigError(msg)

    @property
    def hot_count(self) -> int:
        """How many keys are hot; at least one is, and at least one is not."""
        return min(self.count - 1, max(1, round(self.count * self.hot_share)))

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end."""
        while True:
            is_hot = generator.random(BLOCK_SIZE) < self.hot_probability
            hot = generator.integers(self.hot_count, size=BLOCK_SIZE)
            cold = generator.integers(self.hot_count, self.count, size=BLOCK_SIZE)
            yield np.where(is_hot, hot, cold)


@dataclass(frozen=True, kw_only=True, slots=True)
class Zipf:
    """Rank k, counted from 1, is drawn in proportion to 1 / k ** theta.

    The generator of Gray et al. (1994), which YCSB uses: one power per draw, in
    constant memory. Ranks 1 and 2 have exactly their probability; for the others
    the inverse of the distribution is approximated: with theta 0.99 rank 3 comes
    17 to 20 % too often, ranks 10 to 40 within 4 % of their share. Kept as it is,
    so that results compare with YCSB's.

    Attributes:
        count: How many keys there are.
        theta: Skew, 0 for none up to below 1.
        scrambled: Spread the popular keys over the table by a hash of the rank,
            as YCSB does; else key 0 is the most popular, key 1 the next.
    """

    count: int
    theta: float = THETA
    scrambled: bool = False

    def __post_init__(self) -> None:
        _check_count(self.count)
        if not 0 <= self.theta < 1:
            msg = f"theta must be 0 or more and below 1, got {self.theta}"
            raise ConfigError(msg)

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end."""
        ranks = SCRAMBLED_RANKS if self.scrambled else self.count
        for block in _zipf_ranks(generator, count=ranks, theta=self.theta):
            yield fnv_hash(block) % self.count if self.scrambled else block


@dataclass(frozen=True, kw_only=True, slots=True)
class Latest:
    """The newest key is the most popular, by Zipf's law.

    Keys count down from the newest one, `count - 1`. A workload that inserts
    takes `count - 1 - key` as the distance from what is newest then.

    Attributes:
        count: How many keys there are at the beginning.
        theta: Skew, 0 for none up to below 1.
    """

    count: int
    theta: float = THETA

    def __post_init__(self) -> None:
        Zipf(count=self.count, theta=self.theta)

    def blocks(self, generator: np.random.Generator) -> Iterator[Block]:
        """Yield blocks of keys without end."""
        for block in Zipf(count=self.count, theta=self.theta).blocks(generator):
            yield self.count - 1 - block


def zeta(count: int, theta: float) -> float:
    """Return the sum of 1 / k ** theta for k from 1 to *count*."""
    summed = min(count, ZETA_SUMMED)
    head = float((np.arange(1, summed + 1, dtype=np.float64) ** -theta).sum())
    if count == summed:
        return head
    first, last, power = float(summed), float(count), 1.0 - theta
    tail = (last**power - first**power) / power
    tail += (last**-theta - first**-theta) / 2
    tail += theta * (first ** (-theta - 1) - last ** (-theta - 1)) / 12
    return head + float(tail)


def fnv_hash(values: Block) -> Block:
    """Return the 64-bit FNV-1 hash that YCSB scrambles with, made positive."""
    rest = values.astype(np.uint64)
    hashed = np.full(len(values), FNV_OFFSET, dtype=np.uint64)
    for _ in range(8):
        hashed = (hashed ^ (rest & np.uint64(0xFF))) * np.uint64(FNV_PRIME)
        rest >>= np.uint64(8)
    # Java's smallest long has no positive counterpart; it comes once in 2 ** 64.
    return np.abs(hashed.view(np.int64))


def _zipf_ranks(
    generator: np.random.Generator, *, count: int, theta: float
) -> Iterator[Block]:
    """Yield blocks of ranks counted from 0, by Gray's algorithm."""
    zeta_count = zeta(count, theta)
    second = 1.0 + 0.5**theta
    alpha = 1.0 / (1.0 - theta)
    # With two ranks or fewer the first two branches take every draw.
    eta = 0.0
    if count > 2:  # noqa: PLR2004 - the two ranks drawn exactly
        eta = (1 - (2 / count) ** (1 - theta)) / (1 - second / zeta_count)
    while True:
        uniform = generator.random(BLOCK_SIZE)
        scaled = uniform * zeta_count
        ranks = (count * (eta * uniform - eta + 1) ** alpha).astype(np.int64)
        ranks[scaled < second] = 1
        ranks[scaled < 1] = 0
        # A draw next to 1 may round up to one rank too many.
        yield np.minimum(ranks, count - 1)


def _check_count(count: int, *, least: int = 1) -> None:
    if count < least:
        msg = f"count must be >= {least}, got {count}"
        raise ConfigError(msg)
