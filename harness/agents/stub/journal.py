"""What a stub did, and how late it did it."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.clock import NS_PER_MS

ENTRIES_MAX = 100_000


@dataclass(kw_only=True, slots=True)
class Entry:
    """One question the stub began to answer; times on the stub's own clock.

    Attributes:
        request_id: The id the client was given.
        received_ns: When the whole request had been read.
        first_due_ns: When the first token was due.
        first_written_ns: When it was written; None before.
        tokens_sent: Tokens written.
        finished: Whether the whole answer was written.
        queued_ns: How long it waited for a slot of the capacity model.
        fault: What was done wrong on purpose, if anything.
    """

    request_id: str
    received_ns: int
    first_due_ns: int
    first_written_ns: int | None = None
    tokens_sent: int = 0
    finished: bool = False
    queued_ns: int = 0
    fault: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """One question the stub refused, as planned.

    Attributes:
        number: Number of the question, from 1.
        received_ns: When the whole request had been read.
        status: HTTP status of the answer; 0 if there was none.
        error_code: The platform's code; the fault's kind if there was no answer.
        retry_after_s: What it asked to wait, if it did.
    """

    number: int
    received_ns: int
    status: int
    error_code: str
    retry_after_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Lateness:
    """Written minus due of every token, in milliseconds.

    Attributes:
        count: Tokens measured.
        p50: Median.
        p99: 99th percentile (nearest rank).
        max: The worst.
    """

    count: int
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A stub's account of what it served since its last reset.

    Attributes:
        entries: The questions, in order; the last 100,000.
        requests_count: Questions begun.
        tokens_sent: Tokens written.
        rejected: Requests refused, by error code.
        refusals: The questions refused as planned, in order; the last 100,000.
        lateness_ms: The stub's own timing error.
        stalls_count: Times a client read too slowly for the stub to keep its time.
        connections_count: Connections opened.
        tokens_minted_count: Access tokens its OAuth paths gave out.
    """

    entries: tuple[Entry, ...]
    requests_count: int
    tokens_sent: int
    rejected: dict[str, int]
    lateness_ms: Lateness
    stalls_count: int
    refusals: tuple[Refusal, ...] = ()
    connections_count: int = 0
    tokens_minted_count: int = 0

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Statement:
        """Read a statement that came as JSON."""
        return cls(
            **{
                **values,
                "entries": tuple(Entry(**entry) for entry in values["entries"]),
                "refusals": tuple(Refusal(**one) for one in values["refusals"]),
                "lateness_ms": Lateness(**values["lateness_ms"]),
            }
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return the statement as JSON values."""
        return asdict(self)


@dataclass(kw_only=True, slots=True)
class Journal:
    """Collects what the server does; `reset` begins a new run."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))
    refusals: deque[Refusal] = field(default_factory=lambda: deque(maxlen=ENTRIES_MAX))
    rejected: Counter[str] = field(default_factory=Counter)
    lateness_ns: array[int] = field(default_factory=lambda: array("q"))
    requests_count: int = 0
    tokens_sent: int = 0
    stalls_count: int = 0
    connections_count: int = 0

    def begin(self, entry: Entry) -> None:
        """Note a question."""
        self.requests_count += 1
        self.entries.append(entry)

    def refuse(self, refusal: Refusal) -> None:
        """Note a question that was refused as planned."""
        self.rejected[refusal.error_code] += 1
        self.refusals.append(refusal)

    def wrote(self, entry: Entry, *, due_ns: int, now_ns: int, tokens: int = 1) -> None:
        """Note tokens of *entry*, due at *due_ns*, written at *now_ns*."""
        if entry.first_written_ns is None:
            entry.first_written_ns = now_ns
        entry.tokens_sent += tokens
        self.tokens_sent += tokens
        self.lateness_ns.append(now_ns - due_ns)

    def statement(self, *, tokens_minted_count: int = 0) -> Statement:
        """Return the account so far."""
        return Statement(
            entries=tuple(self.entries),
            requests_count=self.requests_count,
            tokens_sent=self.tokens_sent,
            rejected=dict(self.rejected),
            refusals=tuple(self.refusals),
            lateness_ms=_summarise(self.lateness_ns),
            stalls_count=self.stalls_count,
            connections_count=self.connections_count,
            tokens_minted_count=tokens_minted_count,
        )


def _summarise(lateness_ns: array[int]) -> Lateness:
    ordered = sorted(lateness_ns)
    if not ordered:
        return Lateness(count=0, p50=0.0, p99=0.0, max=0.0)

    def at(share_pct: int) -> float:
        rank = -(-len(ordered) * share_pct // 100)  # nearest rank, rounded up
        return ordered[rank - 1] / NS_PER_MS

    return Lateness(
        count=len(ordered), p50=at(50), p99=at(99), max=ordered[-1] / NS_PER_MS
    )
