"""Random numbers by their place: value i of a seed, with no value before it drawn.

A generator that keeps a state cannot make rows 7,000,000 to 7,100,000 without the
seven million before them, nor make them again after a restart. These can: each value
is a hash of (seed, name, i), the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    Index = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def bits(seed: int, name: str, index: Index) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each place in *index*."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    mixed = index.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += np.uint64(int.from_bytes(digest, "little"))
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MIX_1
    mixed ^= mixed >> np.uint64(27)
    mixed *= _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return mixed


def uniform(seed: int, name: str, index: Index) -> Floats:
    """Return a number in [0, 1) for each place: 53 bits, as NumPy's own."""
    numbers: Floats = (bits(seed, name, index) >> np.uint64(11)).astype(np.float64)
    numbers *= 2.0**-53
    return numbers


class Keys(Protocol):
    """How often each of `count` keys is drawn."""

    @property
    def count(self) -> int:
        """How many keys there are: 0 to count - 1."""
        ...

    def of(self, drawn: Floats) -> Index:
        """Return the key of each number in [0, 1)."""
        ...


@dataclass(frozen=True, slots=True)
class UniformKeys:
    """Each key is as likely as any other."""

    count: int

    def __post_init__(self) -> None:
        _check_count(self.count)

    def of(self, drawn: Floats) -> Index:
        """Return the key of each number in [0, 1)."""
        keys: Index = (drawn * self.count).astype(np.int64)
        return keys


@dataclass(frozen=True, slots=True)
class ZipfKeys:
    """Key k is drawn in proportion to 1 / (k + 1)**exponent.

    Attributes:
        count: How many keys there are.
        exponent: 0 is uniform; 0.99 is YCSB's; the skew of words in a text is 1.
    """

    count: int
    exponent: float = 0.99

    def __post_init__(self) -> None:
        _check_count(self.count)
        if self.exponent < 0:
            msg = f"exponent of Zipf keys must be >= 0, got {self.exponent}"
            raise ConfigError(msg)

    def of(self, drawn: Floats) -> Index:
        """Return the key of each number in [0, 1), exactly: from the whole sum."""
        return np.searchsorted(_zipf_sums(self.count, self.exponent), drawn, "right")


@dataclass(frozen=True, slots=True)
class HotKeys:
    """A few keys get a fixed share of all draws; the others share the rest.

    Attributes:
        count: How many keys there are; the hot ones are the first.
        hot_count: How many of them are hot.
        hot_share: Share of the draws that they get together, 0-1.
    """

    count: int
    hot_count: int = 1
    hot_share: float = 0.5

    def __post_init__(self) -> None:
        _check_count(self.count)
        if not 0 < self.hot_count < self.count:
            msg = f"hot_count must be in 1..{self.count - 1}, got {self.hot_count}"
            raise ConfigError(msg)
        if not 0 < self.hot_share < 1:
            msg = f"hot_share must be between 0 and 1, got {self.hot_share}"
            raise ConfigError(msg)

    def of(self, drawn: Floats) -> Index:
        """Return the key of each number in [0, 1)."""
        cold_count = self.count - self.hot_count
        hot = drawn / self.hot_share * self.hot_count
        cold = (drawn - self.hot_share) / (1 - self.hot_share) * cold_count
        keys = np.where(drawn < self.hot_share, hot, self.hot_count + cold)
        return np.minimum(keys.astype(np.int64), self.count - 1)


def shuffled_in_blocks(seed: int, index: Index, *, block_size: int) -> Index:
    """Return *index* with each block of *block_size* in an order of its own.

    Every place of a block appears in it exactly once: x -> (a x + b) mod size, with
    a and size coprime. So nothing is lost or doubled, and no row moves further than
    a block.
    """
    if block_size <= 1:
        return index
    block, place = np.divmod(index, block_size)
    multipliers = _coprimes(block_size)
    a = multipliers[bits(seed, "shuffle a", block) % np.uint64(len(multipliers))]
    b = (bits(seed, "shuffle b", block) % np.uint64(block_size)).astype(np.int64)
    shuffled: Index = block * block_size + (a * place + b) % block_size
    return shuffled


def _check_count(count: int) -> None:
    if count < 1:
        msg = f"count of keys must be >= 1, got {count}"
        raise ConfigError(msg)


@lru_cache(maxsize=8)
def _zipf_sums(count: int, exponent: float) -> Floats:
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    sums: Floats = np.cumsum(weights)
    sums /= sums[-1]
    return sums


@lru_cache(maxsize=8)
def _coprimes(size: int) -> Index:
    """Return some numbers below *size* that share no divisor with it."""
    # A prime near the golden section spreads neighbours; any coprime will do.
    candidates = np.unique(np.linspace(1, size - 1, min(size, 999)).astype(np.int64))
    coprime: Index = candidates[np.gcd(candidates, size) == 1]
    return coprime
