"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 run", "1,200 runs".

    Args:
        count: The number.
        noun: The word for one.
        plural: The word for several, where it is not the same with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
