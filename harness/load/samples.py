"""Samples: when each operation was due, started, got its connection and finished."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Nanoseconds = npt.NDArray[np.int64]

NO_ERROR = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Timestamps of one operation, in nanoseconds of one monotonic clock.

    They split what a caller waits for into three parts that always add up:
    `response_time = start_delay + checkout_wait + service_time`.

    Attributes:
        intended_ns: When the arrival schedule said it should start; `started_ns`
            in a closed loop, which has no schedule.
        started_ns: When a worker really started it.
        acquired_ns: When it got its connection; `started_ns` if it needs none.
        finished_ns: When it completed or failed.
        worker: Index of the worker that ran it.
        error: Class name of the exception, or None on success.
    """

    intended_ns: int
    started_ns: int
    acquired_ns: int
    finished_ns: int
    worker: int = 0
    error: str | None = None

    @property
    def start_delay_ns(self) -> int:
        """Backlog of the generator: 0 in a closed loop."""
        return self.started_ns - self.intended_ns

    @property
    def checkout_wait_ns(self) -> int:
        """Wait for a connection: if large, the pool is saturated."""
        return self.acquired_ns - self.started_ns

    @property
    def service_time_ns(self) -> int:
        """From holding the connection until completion."""
        return self.finished_ns - self.acquired_ns

    @property
    def response_time_ns(self) -> int:
        """What a caller arriving on schedule waits."""
        return self.finished_ns - self.intended_ns


# One operation as `SampleRecorder` keeps it: 34 bytes, packed.
_ROW = struct.Struct("=qqqqh")
ROW_BYTES = _ROW.size
_COLUMNS = np.dtype(
    [
        ("intended", np.int64),
        ("started", np.int64),
        ("acquired", np.int64),
        ("finished", np.int64),
        ("error", np.int16),
    ]
)


class SampleRecorder:
    """Appends samples of one worker; not shared between threads.

    Attributes:
        codes: Of the classes of errors seen.
        rows: What was recorded, `ROW_BYTES` each.

    One packed row takes about 0.2 us and 34 bytes per operation, and leaves nothing
    for the garbage collector to walk. Five appends to typed arrays take twice that.
    """

    __slots__ = ("codes", "rows")

    def __init__(self, *, codes: dict[str, int] | None = None) -> None:
        self.rows = bytearray()
        # A recorder that follows another keeps its error codes: they may be in use.
        self.codes: dict[str, int] = {} if codes is None else codes

    def __len__(self) -> int:
        return len(self.rows) // _ROW.size

    def append(
        self,
        intended_ns: int,
        started_ns: int,
        acquired_ns: int,
        finished_ns: int,
        error_code: int,
        *,
        pack: Callable[..., bytes] = _ROW.pack,
    ) -> None:
        """Record one operation; *error_code* comes from `error_code`, 0 is success."""
        self.rows += pack(intended_ns, started_ns, acquired_ns, finished_ns, error_code)

    def error_code(self, error: BaseException) -> int:
        """Return the code that stands for this class of error in this recorder."""
        return self.codes.setdefault(type(error).__name__, len(self.codes) + 1)

    def packed_since(self, row: int) -> bytearray:
        """Return a copy of the rows from *row* on, for `completed_in`.

        Safe while its own thread appends, which the copy keeps waiting.
        """
        return self.rows[row * _ROW.size :]

    def log(self, *, worker: int) -> SampleLog:
        """Return what was recorded as columns."""
        # A copy: an operation that returns after all must still find room to append.
        rows = np.frombuffer(bytes(self.rows), dtype=_COLUMNS)
        return SampleLog(
            intended_ns=np.ascontiguousarray(rows["intended"]),
            started_ns=np.ascontiguousarray(rows["started"]),
            acquired_ns=np.ascontiguousarray(rows["acquired"]),
            finished_ns=np.ascontiguousarray(rows["finished"]),
            worker=np.full(len(rows), worker, dtype=np.int16),
            error=np.ascontiguousarray(rows["error"]),
            error_names=(None, *self.codes),
        )


def completed_in(packed: bytes | bytearray) -> tuple[Nanoseconds, Nanoseconds]:
    """Return when the operations of packed rows completed, and their response times.

    Those that failed are left out.
    """
    rows = np.frombuffer(packed, dtype=_COLUMNS)
    rows = rows[rows["error"] == NO_ERROR]
    return rows["finished"], rows["finished"] - rows["intended"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleLog:
    """Samples as columns of equal length, in nanoseconds.

    Attributes:
        intended_ns: See `Sample`; likewise the three columns after it.
        started_ns: See `Sample`.
        acquired_ns: See `Sample`.
        finished_ns: See `Sample`.
        worker: Index of the worker.
        error: Index into `error_names`; 0 is success.
        error_names: None, then the class names of the errors seen.
    """

    intended_ns: Nanoseconds
    started_ns: Nanoseconds
    acquired_ns: Nanoseconds
    finished_ns: Nanoseconds
    worker: npt.NDArray[np.int16]
    error: npt.NDArray[np.int16]
    error_names: tuple[str | None, ...] = (None,)

    @classmethod
    def empty(cls) -> SampleLog:
        """Return a log without samples."""
        return SampleRecorder().log(worker=0)

    @classmethod
    def concatenate(cls, logs: Sequence[SampleLog]) -> SampleLog:
        """Join logs of several workers; error names are merged."""
        if not logs:
            return cls.empty()
        names: list[str | None] = [None]
        errors = []
        for log in logs:
            for name in log.error_names[1:]:
                if name not in names:
                    names.append(name)
            recode = np.array([names.index(n) for n in log.error_names], dtype=np.int16)
            errors.append(recode[log.error])
        return cls(
            intended_ns=np.concatenate([log.intended_ns for log in logs]),
            started_ns=np.concatenate([log.started_ns for log in logs]),
            acquired_ns=np.concatenate([log.acquired_ns for log in logs]),
            finished_ns=np.concatenate([log.finished_ns for log in logs]),
            worker=np.concatenate([log.worker for log in logs]),
            error=np.concatenate(errors),
            error_names=tuple(names),
        )

    def __len__(self) -> int:
        return len(self.finished_ns)

    def __iter__(self) -> Iterator[Sample]:
        for row in range(len(self)):
            yield Sample(
                intended_ns=int(self.intended_ns[row]),
                started_ns=int(self.started_ns[row]),
                acquired_ns=int(self.acquired_ns[row]),
                finished_ns=int(self.finished_ns[row]),
                worker=int(self.worker[row]),
                error=self.error_names[int(self.error[row])],
            )

    def where(self, keep: npt.NDArray[np.bool_]) -> SampleLog:
        """Return the samples for which *keep* is true."""
        if keep.dtype == np.bool_ and keep.all():
            return self  # columns are never written to: no need of a copy
        return SampleLog(
            intended_ns=self.intended_ns[keep],
            started_ns=self.started_ns[keep],
            acquired_ns=self.acquired_ns[keep],
            finished_ns=self.finished_ns[keep],
            worker=self.worker[keep],
            error=self.error[keep],
            error_names=self.error_names,
        )

    @property
    def succeeded(self) -> npt.NDArray[np.bool_]:
        """Which operations completed without error."""
        return np.equal(self.error, NO_ERROR)

    @property
    def errors(self) -> dict[str, int]:
        """How many operations failed, by class name of the error, most first."""
        counts = np.bincount(self.error, minlength=len(self.error_names))
        found = {
            name: int(counts[code])
            for code, name in enumerate(self.error_names)
            if name is not None and counts[code]
        }
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def start_delay_ns(self) -> Nanoseconds:
        """Started minus intended."""
        return self.started_ns - self.intended_ns

    @property
    def checkout_wait_ns(self) -> Nanoseconds:
        """Acquired minus started."""
        return self.acquired_ns - self.started_ns

    @property
    def service_time_ns(self) -> Nanoseconds:
        """Finished minus acquired."""
        return self.finished_ns - self.acquired_ns

    @property
    def response_time_ns(self) -> Nanoseconds:
        """Finished minus intended."""
        return self.finished_ns - self.intended_ns
