"""What a stand-in did, in order: requests, logins, kills, wakes, faults."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.clock import Clock

# Counts go on beyond it; only the oldest entries are forgotten, and that is said.
ENTRIES_MAX = 50_000


class Journal:
    """Entries with their time since the start, and counts by kind.

    No secret is ever written here: a token is known by its number.

    Args:
        clock: Tells the time of an entry.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._started_ns = clock.monotonic_ns()
        self._entries: deque[dict[str, Any]] = deque(maxlen=ENTRIES_MAX)
        self._counts: Counter[str] = Counter()

    def elapsed_s(self) -> float:
        """Seconds since the stand-in started."""
        return (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S

    def note(self, kind: str, **facts: Any) -> None:
        """Write one entry."""
        self._counts[kind] += 1
        at_s = round(self.elapsed_s(), 6)
        self._entries.append({"at_s": at_s, "kind": kind, **facts})

    def clear(self) -> None:
        """Forget entries and counts; times go on."""
        self._entries.clear()
        self._counts.clear()

    def to_mapping(self) -> dict[str, Any]:
        """Return entries and counts for JSON."""
        return {
            "entries": list(self._entries),
            "counts": dict(self._counts),
            "forgotten": sum(self._counts.values()) - len(self._entries),
        }
