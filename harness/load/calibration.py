"""What the load generator itself costs and holds here, and what crew a rate needs.

The target is nothing: an operation that returns at once. What a run over it measures
is the generator's own.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.load.closed_loop import run_closed_loop
from harness.load.doubts import SCHEDULING_LAG_FLOOR_MS
from harness.load.open_loop import run_open_loop
from harness.load.schedules import poisson_arrivals
from harness.load.search import Finding, SearchResult, Verdict, search_rate

if TYPE_CHECKING:
    from harness.load.context import OperationContext

# Past this start delay a result is doubted, so a rate beyond it is not one to offer.
START_DELAY_LIMIT_S = SCHEDULING_LAG_FLOOR_MS[1] / 1000
# Share of a core that one process may use: beyond it operations wait for the
# interpreter lock (seen with psycopg on two cores).
PROCESS_SHARE = 0.55
# Threads of one process hinder each other, unless they mostly wait for the server.
THREADS_PER_PROCESS = 4
THREADS_PER_PROCESS_SLOW = 16
SLOW_SERVICE_S = 0.005
# Standard deviations of the number in flight that find a worker all the same.
HEADROOM = 4

_FLOOR_S = 0.1
_PROBE_S = 0.06
_PROBE_ARRIVALS = 200
_RATE_MIN_PER_S, _RATE_START_PER_S, _RATE_MAX_PER_S = 1000.0, 16_000.0, 256_000.0
_PROBES_MAX = 10
# After so long the search for the ceiling ends with what it has: a busy machine.
_SEARCH_S = 1.8
_CEILING_WORKERS = 2
# The ceiling is what the generator can hold: a disturbance only hides it.
_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """A closed loop over nothing.

    Attributes:
        workers: Callers, over all processes.
        processes: Processes.
        throughput_per_s: Operations per second of all together.
        operation_ns: CPU time of one operation before it does anything.
    """

    workers: int
    processes: int
    throughput_per_s: float
    operation_ns: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What the generator costs and holds on this machine, as it was just now.

    Attributes:
        cores: Processors this process may use.
        floors: Closed loops over nothing, by workers and processes.
        ceiling_per_s: Highest rate one process held over nothing, with the start
            delay p99 within the limit; None if none was found to hold.
        start_delay_limit_s: That limit, in seconds.
        search: The probes of the ceiling.
        wall_s: What calibrating took, in seconds.
    """

    cores: int
    floors: tuple[Floor, ...]
    ceiling_per_s: float | None
    start_delay_limit_s: float
    search: SearchResult
    wall_s: float

    def describe(self) -> str:
        """Return one line for a report."""
        floors = ", ".join(
            f"{floor.operation_ns:,.0f} ns ({floor.workers} x {floor.processes})"
            for floor in self.floors
        )
        return (
            f"generator over nothing: per operation {floors} (workers x processes); "
            f"{self.ceiling_words()}; {self.cores} cores"
        )

    def ceiling_words(self) -> str:
        """Say what one process holds."""
        limit_ms = self.start_delay_limit_s * 1000
        if self.ceiling_per_s is None:
            return (
                f"one process held no rate tried with start delay p99 <= "
                f"{limit_ms:g} ms: the machine is busy"
            )
        return (
            f"one process holds {self.ceiling_per_s:,.0f}/s with start delay p99 <= "
            f"{limit_ms:g} ms"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Crewing:
    """How many workers and processes were picked.

    Attributes:
        workers: Over all processes; a multiple of *processes*.
        processes: Never more than cores.
        reason: What was picked and why, a line for the record.
        enough: Whether this machine can be expected to make the rate.
    """

    workers: int
    processes: int
    reason: str
    enough: bool


def nothing(_context: OperationContext) -> None:
    """Be the target that takes no time."""


@cache
def calibrated() -> Calibration:
    """Return this machine's calibration, measured on the first call in a process."""
    return calibrate()


def calibrate(*, start_delay_limit_s: float = START_DELAY_LIMIT_S) -> Calibration:
    """Measure the generator over nothing; takes 1 to 3 s.

    Args:
        start_delay_limit_s: Largest p99 of the start delay that counts as holding a
            rate, in seconds.
    """
    from_ns = SYSTEM_CLOCK.monotonic_ns()

    def probe(rate_per_s: float) -> Finding:
        if SYSTEM_CLOCK.monotonic_ns() - from_ns > _SEARCH_S * NS_PER_S:
            reason = f"{_SEARCH_S:g} s of calibration are over"
            return Finding(verdict=Verdict.INVALID, reason=reason)
        return _probe(rate_per_s, start_delay_limit_s)

    search = search_rate(
        probe,
        start_per_s=_RATE_START_PER_S,
        min_per_s=_RATE_MIN_PER_S,
        max_per_s=_RATE_MAX_PER_S,
        tolerance=0.2,
        probes_max=_PROBES_MAX,
    )
    cores = usable_cores()
    crews = [(1, 1), (THREADS_PER_PROCESS, 1)] + ([(2, 2)] if cores > 1 else [])
    return Calibration(
        cores=cores,
        floors=tuple(_floor(workers, processes) for workers, processes in crews),
        ceiling_per_s=search.held_per_s,
        start_delay_limit_s=start_delay_limit_s,
        search=search,
        wall_s=(SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S,
    )


def usable_cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_workers(
    *,
    rate_per_s: float,
    service_time_s: float,
    client_cpu_s: float = 0.0,
    calibration: Calibration,
) -> Crewing:
    """Pick workers and processes for an open loop, and say why.

    Little's law gives the operations in flight: rate x service time. Arrivals are
    independent, so their number varies by its square root; workers cover four times
    that. Processes follow from what one can make: the calibrated ceiling, less the
    client's work on each operation, and only so many threads.

    Args:
        rate_per_s: Arrivals per second, at the peak of the schedule.
        service_time_s: What an operation takes, checkout included, in seconds.
        client_cpu_s: The part of it that the client computes, in seconds.
        calibration: What the generator holds here: `calibrated()`.

    Raises:
        ConfigError: If a rate or time is impossible.
    """
    if not 0 < rate_per_s < math.inf:
        msg = f"rate_per_s must be > 0, got {rate_per_s}"
        raise ConfigError(msg)
    if not 0 <= client_cpu_s <= service_time_s < math.inf:
        msg = (
            "needs 0 <= client_cpu_s <= service_time_s, got "
            f"{client_cpu_s} and {service_time_s}"
        )
        raise ConfigError(msg)
    in_flight = rate_per_s * service_time_s
    workers = math.ceil(in_flight + HEADROOM * math.sqrt(in_flight)) + 1
    slow = service_time_s >= SLOW_SERVICE_S
    threads_max = THREADS_PER_PROCESS_SLOW if slow else THREADS_PER_PROCESS
    process_per_s = _process_rate_per_s(calibration, client_cpu_s)
    wanted_by_rate = math.ceil(rate_per_s / process_per_s)
    wanted_by_threads = math.ceil(workers / threads_max)
    processes = min(calibration.cores, max(wanted_by_rate, wanted_by_threads))
    enough = wanted_by_rate <= calibration.cores
    workers = math.ceil(max(workers, processes) / processes) * processes
    in_processes = "1 process" if processes == 1 else f"{processes} processes"
    law = (
        f"{workers} workers in {in_processes}: {rate_per_s:,.6g}/s x "
        f"{service_time_s * 1000:.3g} ms keep {in_flight:.3g} in flight (Little's "
        f"law), with room for {HEADROOM} standard deviations more"
    )
    plan = (
        f"{calibration.ceiling_words()}, planned with {process_per_s:,.0f}/s for "
        f"{client_cpu_s * 1e6:.3g} us of client CPU per operation"
    )
    sentences = [law, plan]
    if not enough:
        sentences.append(
            f"NOT ENOUGH: {calibration.cores} cores make about "
            f"{process_per_s * calibration.cores:,.0f}/s, so expect the run to be "
            "invalid; lower the rate or use a larger machine"
        )
    elif wanted_by_threads > calibration.cores:
        sentences.append(
            f"{workers // processes} threads per process where {threads_max} are "
            f"known to work, because there are {calibration.cores} cores: look at "
            "the start delay"
        )
    return Crewing(
        workers=workers,
        processes=processes,
        reason="; ".join(sentences),
        enough=enough,
    )


def _process_rate_per_s(calibration: Calibration, client_cpu_s: float) -> float:
    """Return what one process is planned to make, per second."""
    own_s = calibration.floors[0].operation_ns / NS_PER_S
    by_cpu_per_s = PROCESS_SHARE / (own_s + client_cpu_s)
    # Where the machine was too busy to show a ceiling, CPU time still tells.
    return min(calibration.ceiling_per_s or by_cpu_per_s, by_cpu_per_s)


def _probe(rate_per_s: float, limit_s: float) -> Finding:
    """Offer a rate to nothing and look at the start delay; the best attempt counts."""
    duration_s = max(_PROBE_S, _PROBE_ARRIVALS / rate_per_s)
    for _ in range(_ATTEMPTS):
        result = run_open_loop(
            nothing,
            poisson_arrivals(rate_per_s=rate_per_s, duration_s=duration_s),
            workers=_CEILING_WORKERS,
            drain_s=2 * limit_s,
        )
        if result.dropped:
            reason = f"{result.dropped} of {result.scheduled} arrivals dropped"
            finding = Finding(verdict=Verdict.VIOLATED, reason=reason)
            continue
        delay_s = float(np.quantile(result.samples.start_delay_ns, 0.99)) / NS_PER_S
        finding = Finding(
            verdict=Verdict.HELD if delay_s <= limit_s else Verdict.VIOLATED,
            reason=f"start delay p99 {delay_s * 1000:.3g} ms",
            value_ms=round(delay_s * 1000, 6),
        )
        if finding.verdict is Verdict.HELD:
            break
    return finding


def _floor(workers: int, processes: int) -> Floor:
    result = run_closed_loop(
        nothing, workers=workers, processes=processes, duration_s=_FLOOR_S
    )
    return Floor(
        workers=workers,
        processes=processes,
        throughput_per_s=result.throughput_per_s,
        operation_ns=result.generator_cpu_ns / result.completed,
    )
