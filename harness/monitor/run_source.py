"""Figures of a run of benchmarks: the one in progress, or a saved one played again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ReportError
from harness.monitor.folder import state_of
from harness.reports.live import (
    LiveBenchmark,
    LiveData,
    LiveErrors,
    LiveLoad,
    LiveTimes,
)
from harness.reports.live_file import LiveReader
from harness.reports.record import case_block_of

if TYPE_CHECKING:
    from harness.monitor.folder import ReportFolder, SavedRun
    from harness.monitor.views import CaseView
    from harness.reports.record import CaseBlock

# What a case without a course by second is shown for.
REPLAY_STEP_S = 1.0


class RunSource:
    """The run in progress, in whatever process it is; else the newest report.

    Args:
        folder: The folder of reports.
        interval_s: How often updates are wanted, in seconds.
        clock: Decides what is fresh.
    """

    def __init__(
        self,
        folder: ReportFolder,
        *,
        interval_s: float = 0.5,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder
        self._reader = LiveReader(folder.path, interval_s=interval_s, clock=clock)

    def live(self) -> LiveData:
        """Return what the run says of itself, with what its journal holds."""
        update = self._reader.read()
        if update is not None:
            return update.data
        listing = self._folder.listing()
        if not listing.runs:
            return LiveData(notes=("no run is in progress; `make bench` starts one",))
        run = listing.runs[0]
        return LiveData(
            benchmark=LiveBenchmark(
                started_at=run.started_at,
                state=state_of(run),
                cases_done=len(run.cases),
                cases_failed=len(run.run.failed),
            ),
            errors=_errors(run.cases),
            notes=("no run is in progress; this is the newest report",),
        )


class ReplaySource:
    """A saved report, played from its start: a second of it takes `1 / speed` s.

    What was not saved is not shown: there is no pool in a report, and percentiles
    are of a whole case.

    Args:
        run: The report.
        speed: How many times as fast as it was measured.
        clock: Says how far the replay is.

    Raises:
        ReportError: The report has no case.
    """

    def __init__(
        self, run: SavedRun, *, speed: float = 1.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if not run.cases:
            msg = f"report {run.label} has no case to replay"
            raise ReportError(msg)
        self._run = run
        self._speed = speed
        self._clock = clock
        self._started_ns = clock.monotonic_ns()
        self._blocks = {
            record["fullname"]: block
            for record in run.report.data["benchmarks"]
            if (block := case_block_of(record)) is not None
        }

    def live(self) -> LiveData:
        """Return the case of this moment; after the last one, its end stays."""
        elapsed_ns = self._clock.monotonic_ns() - self._started_ns
        left_s = elapsed_ns / NS_PER_S * self._speed
        cases = self._run.cases
        for index, case in enumerate(cases):
            length_s = self._length_s(case)
            if left_s < length_s or index == len(cases) - 1:
                break
            left_s -= length_s
        return LiveData(
            benchmark=LiveBenchmark(
                started_at=self._run.started_at,
                state="replay",
                case=case.fullname,
                case_index=index + 1,
                cases_total=len(cases),
                cases_done=index,
                cases_failed=len(self._run.run.failed),
            ),
            load=self._load(case, second=int(min(left_s, length_s))),
            errors=_errors(cases[: index + 1]),
            notes=(f"replay of report {self._run.label}",),
        )

    def _length_s(self, case: CaseView) -> float:
        block = self._blocks.get(case.fullname)
        return max(REPLAY_STEP_S, (block.wall_s or 0.0) if block else 0.0)

    def _load(self, case: CaseView, *, second: int) -> LiveLoad:
        block = self._blocks.get(case.fullname)
        return LiveLoad(
            case=case.fullname,
            throughput_per_s=_throughput(case, block, second),
            response_time=LiveTimes(
                count=case.values_count,
                p50_ms=_ms(case.p50_s),
                p95_ms=_ms(case.p95_s),
                p99_ms=_ms(case.p99_s),
            ),
            errors_total=case.errors_count,
        )


def _throughput(case: CaseView, block: CaseBlock | None, second: int) -> float | None:
    if block is not None and second < len(block.per_second):
        return float(block.per_second[second])
    return case.throughput_per_s


def _errors(cases: tuple[CaseView, ...]) -> LiveErrors:
    count = sum(case.errors_count for case in cases)
    counts = {"unknown": count} if count else {}
    return LiveErrors(total_errors=count, error_counts_by_category=counts)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
