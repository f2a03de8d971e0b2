"""Load cases as levels of one series: efficiency, reliability, sweet spot, knee.

Every figure is computed from what was measured; where the measurements do not say,
there is no figure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.page.view import CaseView

# Two levels make a line; a bend needs a third.
LEVELS_FOR_KNEE = 3
# Errors by which a connection was not to be had, or was lost.
CONNECTION_ERRORS = frozenset(
    (
        *("AdminShutdown", "AgentConnectionError", "CannotConnectNow"),
        *("CheckoutTimeoutError", "ConnectError", "ConnectTimeout", "ConnectionError"),
        *("ConnectionAbortedError", "ConnectionDoesNotExist", "ConnectionFailure"),
        *("ConnectionRefusedError", "ConnectionResetError", "ConnectionTimeout"),
        *("CrashShutdown", "DatabaseConnectionError", "InterfaceError"),
        *("OperationalError", "PoolTimeout", "TooManyConnections"),
    )
)
# What a load loop measures; a series of durations counts where a number is varied.
_LOOPS = ("closed_loop", "open_loop")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadLevel:
    """One load case.

    Attributes:
        name: Its name.
        level: What was varied, at its value here.
        threads: Concurrent callers; None where the record does not say.
        throughput_per_s: Completed operations per second of wall time.
        attempted: Operations that were asked for.
        completed: Those that succeeded.
        errors_count: Those that failed.
        connection_errors_count: Those that failed for want of a connection.
        mean_s: Mean response time, in seconds.
        p50_s: Median response time, in seconds.
        p95_s: Its 95th percentile; None of too few values.
        p99_s: Its 99th percentile; None of too few values.
        wall_s: Length of the run, in seconds.
    """

    name: str
    level: float
    threads: int | None
    throughput_per_s: float
    attempted: int
    completed: int
    errors_count: int
    connection_errors_count: int
    mean_s: float
    p50_s: float
    p95_s: float | None
    p99_s: float | None
    wall_s: float | None

    @property
    def error_rate(self) -> float:
        """Share of operations that did not succeed, 0 to 1."""
        return 1 - self.completed / self.attempted if self.attempted else 0.0

    @property
    def efficiency(self) -> float | None:
        """Throughput per concurrent caller, per second."""
        return self.throughput_per_s / self.threads if self.threads else None

    @property
    def reliability(self) -> float:
        """Percent of operations that succeeded, 0 to 100."""
        return 100 * (1 - self.error_rate)

    @property
    def power(self) -> float:
        """Throughput per response time; where it is highest is the knee.

        Kleinrock, "Power and Deterministic Rules of Thumb", 1979.
        """
        return self.throughput_per_s / self.p50_s if self.p50_s > 0 else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadSeries:
    """Load cases that differ in one number, in the order of it.

    Attributes:
        name: The test, with its other parameters.
        group: Its benchmark group.
        varied: Name of the number that was varied.
        levels: Its cases.
    """

    name: str
    group: str
    varied: str
    levels: tuple[LoadLevel, ...]

    @property
    def sweet_spot(self) -> LoadLevel | None:
        """The highest throughput of the levels at which nothing failed."""
        good = [level for level in self.levels if level.error_rate == 0]
        return max(good, key=lambda level: level.throughput_per_s, default=None)

    @property
    def knee(self) -> LoadLevel | None:
        """The level of the most throughput per response time.

        None of too few levels, and where it is the last: the bend lies beyond.
        """
        if len(self.levels) < LEVELS_FOR_KNEE:
            return None
        best = max(self.levels, key=lambda level: level.power)
        return None if best is self.levels[-1] else best

    def performance(self, level: LoadLevel) -> float | None:
        """Score a level within its series, 0 to 100.

        Its share of the best throughput, times the best p99 / its p99, times the
        share that succeeded.
        """
        tails = [v.p99_s for v in self.levels if v.p99_s]
        best = max(v.throughput_per_s for v in self.levels)
        if not level.p99_s or not tails or not best:
            return None
        speed = level.throughput_per_s / best
        return speed * (min(tails) / level.p99_s) * level.reliability


def load_series(views: Sequence[CaseView]) -> list[LoadSeries]:
    """Sort load cases into series; one that varies nothing is a series of its own."""
    loads = [v for v in views if v.is_load and v.stats.get("throughput")]
    by_test: defaultdict[tuple[str, str, str], list[CaseView]] = defaultdict(list)
    for view in loads:
        module = view.fullname.partition("::")[0]
        by_test[module, view.group, view.function].append(view)
    found = []
    for (_, group, function), cases in by_test.items():
        varied = _varied(cases)
        loops = [v.block is not None and v.block.kind in _LOOPS for v in cases]
        if not varied and not all(loops):
            continue
        rest: defaultdict[str, list[CaseView]] = defaultdict(list)
        for view in cases:
            rest[_without(view, varied)].append(view)
        for others, members in rest.items():
            levels = sorted(
                (_level(view, varied) for view in members), key=lambda v: v.level
            )
            found.append(
                LoadSeries(
                    name=f"{function}[{others}]" if others else function,
                    group=group,
                    varied=varied or "callers",
                    levels=tuple(levels),
                )
            )
    return found


def _varied(cases: Sequence[CaseView]) -> str:
    """Return the parameter with the most different numbers, or ""."""
    names = {name for view in cases for name in view.parameters}
    counts = {name: len({v.parameters.get(name) for v in cases}) for name in names}
    best = max(sorted(counts), key=lambda name: counts[name], default="")
    return best if best and counts[best] > 1 else ""


def _without(view: CaseView, varied: str) -> str:
    inner = view.name[len(view.function) :].strip("[]")
    if not varied:
        return inner
    return "-".join(p for p in inner.split("-") if not p.startswith(f"{varied}="))


def _level(view: CaseView, varied: str) -> LoadLevel:
    block = view.block
    assert block is not None  # noqa: S101  # of a load case
    accounting = block.accounting
    completed = accounting.completed if accounting else view.values_count
    connection = sum(n for key, n in block.errors.items() if key in CONNECTION_ERRORS)
    level = view.parameters.get(varied)
    return LoadLevel(
        name=view.name,
        level=float(block.workers or 1) if level is None else level,
        threads=block.workers,
        throughput_per_s=float(view.stats["throughput"]),
        attempted=accounting.scheduled if accounting else completed + view.errors_count,
        completed=completed,
        errors_count=view.errors_count,
        connection_errors_count=connection,
        mean_s=float(view.stats["mean"]),
        p50_s=view.duration_s("p50") or float(view.stats["median"]),
        p95_s=view.duration_s("p95"),
        p99_s=view.duration_s("p99"),
        wall_s=block.wall_s,
    )
