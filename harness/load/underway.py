"""The loads at work in this process, for whoever watches them meanwhile.

Being watched costs an operation nothing: its worker records as ever, and whoever looks
copies what has been added since the last look. A failure is noted when it happens, at
the price of a count; its words only a few times a second.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import Classification
from harness.load.samples import ROW_BYTES, completed_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import numpy.typing as npt

    from harness.load.crew import Crew, Worker
    from harness.load.samples import Nanoseconds

RATE_WINDOW_NS = NS_PER_S
# A load that has just begun has a rate from here on.
RATE_MIN_NS = NS_PER_S // 2
# Percentiles are of the last second, or of as long as it takes to have so many.
VALUES_WANTED = 100
VALUES_WINDOW_NS = 10 * NS_PER_S
# A look after a long pause copies no more of one worker than this: 700 kB.
ROWS_MAX = 20_000
LAST_FAILURES_MAX = 10
# Each costs its words; of a storm, a few a second tell enough.
WORDS_EVERY_NS = NS_PER_S // 20
MESSAGE_CHARACTERS_MAX = 500
ASKED_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class FailureKind:
    """What tells one kind of failure from another, without its words.

    Attributes:
        type: Class of the exception.
        sqlstate: What a database called it, if one did.
        classification: What the exception itself says that it means.
        asked: The endpoint that was asked, where the exception says so.
    """

    type: type[BaseException]
    sqlstate: str | None
    classification: Classification | None
    asked: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> FailureKind:
        """Return the kind of one failure."""
        sqlstate = getattr(error, "sqlstate", None)
        known = getattr(error, "classification", None)
        asked = getattr(error, "asked", None)
        return cls(
            type(error),
            sqlstate if isinstance(sqlstate, str) else None,
            known if isinstance(known, Classification) else None,
            asked[:ASKED_CHARACTERS_MAX] if isinstance(asked, str) else None,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure: not the exception, whose frames would keep a pool alive."""

    at: datetime
    kind: FailureKind
    message: str


class Failures:
    """Failed operations by kind since the process began, and the last few.

    Args:
        clock: Dates them.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[FailureKind] = Counter()
        self._last: deque[Failure] = deque(maxlen=LAST_FAILURES_MAX)
        self._said_ns: dict[FailureKind, int] = {}

    def note(self, error: BaseException, *, count: int = 1) -> None:
        """Count a failure; take its words unless those of its kind were just taken."""
        kind, now_ns = FailureKind.of(error), self._clock.monotonic_ns()
        with self._lock:
            self._counts[kind] += count
            said_ns = self._said_ns.get(kind)
            if said_ns is not None and now_ns - said_ns < WORDS_EVERY_NS:
                return
            self._said_ns[kind] = now_ns
        # Outside the lock: what an exception says is somebody else's code.
        failure = Failure(self._clock.now(), kind, _words(error))
        self._last.append(failure)

    def counts(self) -> Counter[FailureKind]:
        """Return how many there were of each kind."""
        with self._lock:
            return self._counts.copy()

    def last(self) -> tuple[Failure, ...]:
        """Return the last ones, oldest first."""
        return tuple(self._last)


FAILURES = Failures()
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadNow:
    """What a load does now.

    Attributes:
        workers: Callers.
        in_flight: Those of them that are in an operation.
        completed_per_s: Operations completed in the last second, per second; None
            in the first half of one.
        response_time_ns: Of those that completed in the last second, or of the last
            hundred if they were fewer, in nanoseconds.
        completed: Operations that completed so far, warm-up included.
        failed: Operations that failed so far, likewise.
    """

    workers: int
    in_flight: int
    completed: int
    failed: int
    completed_per_s: float | None
    response_time_ns: Nanoseconds


def together(parts: Sequence[LoadNow]) -> LoadNow | None:
    """Return what the parts of one load do, each in a process of its own."""
    if not parts:
        return None
    rates = [part.completed_per_s for part in parts]
    return LoadNow(
        workers=sum(part.workers for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        completed_per_s=None if None in rates else sum(filter(None, rates)),
        response_time_ns=np.concatenate([part.response_time_ns for part in parts]),
    )


class Elsewhere(ABC):
    """A load of other processes, which say themselves what they do."""

    @abstractmethod
    def look(self) -> LoadNow | None:
        """Return what they said last, without waiting; None before the first word."""


# Each with the failures there were before it.
_UNDERWAY: list[tuple[Crew | Elsewhere, int]] = []


@contextmanager
def underway(
    load: Crew | Elsewhere, *, failures: Failures = FAILURES
) -> Iterator[None]:
    """Show a load to those who watch, for the length of a block."""
    entry = (load, failures.counts().total())
    _UNDERWAY.append(entry)
    try:
        yield
    finally:
        _UNDERWAY.remove(entry)


def in_flight() -> int:
    """Return how many operations are being done in this process."""
    crews = [load for load, _ in _UNDERWAY if not isinstance(load, Elsewhere)]
    return sum(worker.in_operation for crew in crews for worker in crew.workers)


class LoadWatch:
    """Looks at the loads of this process, whichever are at work.

    Args:
        clock: That of the loads.
        failures: Where they note failures.
        every_ns: How often it looks at what was recorded, at most; in between, only
            the operations in flight are new.
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        failures: Failures = FAILURES,
        every_ns: int = 0,
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._every_ns = every_ns
        self._last: tuple[int, LoadNow] | None = None
        self._crew: Crew | None = None
        self._tails: list[_Tail] = []
        self._counts: deque[tuple[int, int]] = deque()
        self._finished_ns = self._response_ns = _NONE

    def look(self) -> LoadNow | None:
        """Return what has been done of late; None while no load is at work."""
        # The newest: a load that starts another one waits for it.
        crew, failed_before = _UNDERWAY[-1] if _UNDERWAY else (None, 0)
        if isinstance(crew, Elsewhere):
            return crew.look()
        if crew is not self._crew:
            self._crew = crew
            self._tails = [_Tail(worker) for worker in crew.workers] if crew else []
            self._counts.clear()
            self._finished_ns = self._response_ns = _NONE
            self._last = None
        if crew is None:
            return None
        now_ns = self._clock.monotonic_ns()
        if self._last is not None and now_ns - self._last[0] < self._every_ns:
            return replace(self._last[1], in_flight=in_flight())
        now = self._looked(crew, failed_before, now_ns)
        self._last = (now_ns, now)
        return now

    def _looked(self, crew: Crew, failed_before: int, now_ns: int) -> LoadNow:
        self._take(now_ns)
        ended = sum(tail.ended_count() for tail in self._tails)
        failed = self._failures.counts().total() - failed_before
        completed = max(0, ended - failed)
        return LoadNow(
            workers=len(crew.workers),
            in_flight=in_flight(),
            completed=completed,
            failed=failed,
            completed_per_s=self._completed_per_s(now_ns, completed),
            response_time_ns=self._response_ns,
        )

    def _take(self, now_ns: int) -> None:
        """Take what is new, and let go of what is old, which costs most of a look."""
        finished_ns, response_ns = completed_in(
            b"".join([tail.take() for tail in self._tails])
        )
        finished_ns = np.concatenate((self._finished_ns, finished_ns))
        response_ns = np.concatenate((self._response_ns, response_ns))
        kept: npt.NDArray[Any] = finished_ns > now_ns - RATE_WINDOW_NS
        if np.count_nonzero(kept) < VALUES_WANTED:
            order = np.argsort(finished_ns, kind="stable")[-VALUES_WANTED:]
            kept = order[finished_ns[order] > now_ns - VALUES_WINDOW_NS]
        self._finished_ns, self._response_ns = finished_ns[kept], response_ns[kept]

    def _completed_per_s(self, now_ns: int, completed: int) -> float | None:
        """Return the growth over the last second, or a little more."""
        counts = self._counts
        if counts and now_ns - counts[-1][0] > VALUES_WINDOW_NS:
            counts.clear()  # Nobody looked: of late, nothing is known.
        counts.append((now_ns, completed))
        while len(counts) > 2 and now_ns - counts[1][0] >= RATE_WINDOW_NS:  # noqa: PLR2004  # two make a rate
            counts.popleft()
        from_ns, before = counts[0]
        if now_ns - from_ns < RATE_MIN_NS:
            return None
        # Rows that are being folded may be counted twice, for one look.
        return max(0, completed - before) * NS_PER_S / (now_ns - from_ns)


class _Tail:
    """What a worker has recorded since the last look."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._recorder = worker.warmup
        self._rows = 0

    def take(self) -> bytearray:
        """Return what has been recorded since the last look."""
        worker = self._worker
        filled = [r for r in (worker.overflow, worker.measured) if len(r)]
        recorder = filled[0] if filled else worker.warmup
        if recorder is not self._recorder:
            self._recorder, self._rows = recorder, 0
        first = max(self._rows, len(recorder) - ROWS_MAX)
        packed = recorder.packed_since(first)
        # It may have grown since its length was asked for.
        self._rows = first + len(packed) // ROW_BYTES
        return packed

    def ended_count(self) -> int:
        """Return how many operations it has ended."""
        worker = self._worker
        folded = worker.folded.workers.get(worker.index, 0) if worker.folded else 0
        kept = len(worker.warmup) + len(worker.measured) + len(worker.overflow)
        return folded + kept


def _words(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARACTERS_MAX]
    except Exception:  # noqa: BLE001  # whatever an exception's own code raises
        return ""
