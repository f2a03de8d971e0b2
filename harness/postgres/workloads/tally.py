"""What workers say they have done, and what the server must show for it."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields


@dataclass(slots=True)
class Tally:
    """What the server told one worker.

    Attributes:
        operations: Operations that ended without error.
        reads: Lookups that returned the row asked for.
        writes: Updates that the server acknowledged as committed.
        inserts: Rows that the server acknowledged as committed.
        scans: Ranges that came back complete.
        amount: Sum of the numbers written, where the server can add them up too.
    """

    operations: int = 0
    reads: int = 0
    writes: int = 0
    inserts: int = 0
    scans: int = 0
    amount: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Tally(*(mine + theirs for mine, theirs in pairs))

    def __sub__(self, other: Tally) -> Tally:
        """Return what was done since *other*."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Tally(*(mine - theirs for mine, theirs in pairs))


TALLY_FIELDS = tuple(field.name for field in fields(Tally))


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A number that the server itself must be able to show.

    Attributes:
        expected: The number, if every operation ended as its worker was told.
        most: The most that one operation of unknown outcome may add to it.
        least: The least that it may add, below 0 for a sum of signed amounts.
        extra: What the server may count on top without having been asked.
    """

    expected: int
    most: int = 1
    least: int = 0
    extra: int = 0

    def range(self, unknown: int) -> tuple[int, int]:
        """Return the bounds of what is accepted with *unknown* outcomes."""
        high = self.expected + self.extra + self.most * unknown
        return self.expected + self.least * unknown, high
