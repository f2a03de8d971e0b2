"""Doubts: why a result may not mean what it seems to, and when it means nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_MS
from harness.load.fairness import jain_index
from harness.load.quantiles import samples_needed
from harness.load.steady import drift, warmup_share

if TYPE_CHECKING:
    from harness.load.result import LoadResult
    from harness.load.samples import Nanoseconds

# Above the first figure a result is doubted, above the second it is invalid. They
# are shares unless they say otherwise. Where they come from: docs/methodology.md.
GENERATOR_CPU = (0.85, 0.97)  # of a core, open loop; a closed loop is only doubted
# The p99 of the start delay that the generator is to blame for, and that of the wait
# before its code runs, against the p99 of the response time they are a part of; and the
# milliseconds below which they are never of interest.
SCHEDULING_LAG = (0.10, 0.50)
SCHEDULING_LAG_FLOOR_MS = (0.2, 0.5)
# Where at least this share of it was spent runnable, it was no lock that was missing.
PROCESSOR_SHARE = 0.5
OTHERS_CPU = (0.25, 0.75)  # of the whole machine
STOLEN_CPU = (0.02, 0.20)  # of the whole machine
# Below the first figure a result is doubted, below the second it is invalid.
JAIN_INDEX = (0.80, 0.50)
# Only doubts.
CLOCK_SKEW_NS = 500 * NS_PER_MS  # between the machines that made the load
DRIFT = 0.20  # throughput of the last third against the first
WARMUP_SHARE = 0.10  # of the run looks like warm-up
# A worker that finished nothing is starved only where the others finished this many.
STARVED_AT = 20


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason to hesitate.

    Attributes:
        sentence: What was seen and what to do next.
        invalid: Whether the result is to be discarded for it.
    """

    sentence: str
    invalid: bool = False


def doubts_about(result: LoadResult) -> list[Doubt]:
    """Return every doubt about a run, the disqualifying ones first."""
    found = [
        *_generator(result),
        *_scheduling_lag(result),
        *_pulse(result),
        *_surroundings(result),
        *_clocks(result),
        *_fairness(result),
        *_accounting(result),
        *_course(result),
    ]
    return sorted(found, key=lambda doubt: not doubt.invalid)


def generator_delays_ns(result: LoadResult) -> Nanoseconds:
    """Return the part of each start delay that the generator is to blame for, in ns.

    A delay while all workers are busy is the server's doing: the arrival waits for
    an answer to another, until the worker that takes it is free; what passes from
    there until it starts is the generator's. A delay while a worker is free is the
    generator's from the beginning: timer, interpreter lock or a busy machine. A
    worker is free for an arrival if of those that came before it fewer than there
    are workers are not finished.
    """
    samples, warmup = result.samples, result.warmup
    # In the order of arrival finished times are nearly sorted, so sorting them and
    # searching in them is quick.
    order = np.argsort(samples.intended_ns, kind="stable")
    at_ns = samples.intended_ns[order]
    finished_ns = np.sort(samples.finished_ns[order], kind="stable")
    ahead = np.arange(len(at_ns)) - np.searchsorted(finished_ns, at_ns)
    if len(warmup):
        # Those of the warm-up all came before.
        ahead += len(warmup) - np.searchsorted(np.sort(warmup.finished_ns), at_ns)
    free = ahead < result.workers
    delays: Nanoseconds = np.where(
        free, samples.start_delay_ns[order], _taking_delays_ns(result)[order]
    )
    return delays


def _taking_delays_ns(result: LoadResult) -> Nanoseconds:
    """Return how long after its worker was free each operation started, in ns.

    Counted from when it was due, if that was later. The operations of a worker stand
    one after the other; before its first one it is taken to have been busy.
    """
    samples = result.samples
    delays = np.zeros(len(samples), dtype=np.int64)
    same = samples.worker[1:] == samples.worker[:-1]
    free_ns = np.maximum(samples.finished_ns[:-1], samples.intended_ns[1:])
    delays[1:] = np.where(same, samples.started_ns[1:] - free_ns, 0)
    found: Nanoseconds = np.maximum(delays, 0)
    return found


def _generator(result: LoadResult) -> list[Doubt]:
    busy = result.generator_cpu_utilization
    doubted, invalid = GENERATOR_CPU
    if busy <= doubted:
        return []
    if result.loop == "closed":
        # It slows itself down with the client, so what it shows is still true of
        # this client: but not of the server.
        return [
            Doubt(
                f"the load generator used more than {doubted:.0%} of a core, so this "
                "may be the limit of the client, not of the server; compare with "
                "fewer threads or more processes"
            )
        ]
    limit = invalid if busy > invalid else doubted
    return [
        Doubt(
            f"the load generator used more than {limit:.0%} of a core in one "
            "process, so its own queue is in the response times; lower the rate or "
            "raise processes",
            invalid=busy > invalid,
        )
    ]


def _scheduling_lag(result: LoadResult) -> list[Doubt]:
    if result.loop != "open" or result.folded is not None:
        return []
    delays_ns = generator_delays_ns(result)
    if len(delays_ns) < samples_needed(0.99):
        return []
    lag_ms = float(np.quantile(delays_ns, 0.99)) / NS_PER_MS
    response_ms = _response_ms_p99(result)
    doubted_ms, invalid_ms = _lag_limits_ms(response_ms)
    if lag_ms <= doubted_ms:
        return []
    return [
        Doubt(
            f"operations started {_two_digits(lag_ms)} ms late (p99) while a worker "
            f"was free, of {_two_digits(response_ms)} ms response time: the generator, "
            "not the server, "
            "was slow; free the machine, use fewer threads per process, or lower the "
            "rate",
            invalid=lag_ms > invalid_ms,
        )
    ]


def _pulse(result: LoadResult) -> list[Doubt]:
    """Doubt a run whose own code had to wait before it could run.

    That wait is in service times too, and keeps workers busy: where it is the larger
    part of the response times of an open loop, they are not the server's.
    """
    pulse = result.pulse
    if pulse is None or pulse.beats < samples_needed(0.99):
        return []
    late_ms = pulse.late_ns_p99 / NS_PER_MS
    response_ms = _response_ms_p99(result)
    doubted_ms, invalid_ms = _lag_limits_ms(response_ms)
    if late_ms <= doubted_ms:
        return []
    around = result.surroundings
    crowded = around is not None and around.others > OTHERS_CPU[0]
    if (pulse.processor_share or 0.0) > PROCESSOR_SHARE:
        what, advice = "a processor", "free the machine, or lower the rate"
    elif pulse.one_thread:
        what = "its turn in the one thread of its workers"
        advice = "use more processes, or lower the rate"
        if crowded:
            # Whoever has the turn may itself be waiting for a processor.
            what, advice = f"a processor or {what}", f"free the machine, {advice}"
    elif crowded:
        # Whoever holds the lock may itself be waiting for a processor.
        what = "a processor or the interpreter lock"
        advice = "free the machine, or use fewer threads per process"
    else:
        what = "the interpreter lock, which its threads hand around"
        advice = "use fewer threads per process, more processes, or interleaved=True"
    return [
        Doubt(
            f"code of the generator waited {_two_digits(late_ms)} ms (p99) for {what}, "
            f"of {_two_digits(response_ms)} ms response time: it is in service times "
            f"too; {advice}",
            # A closed loop slows down with its client: true of this client.
            invalid=late_ms > invalid_ms and result.loop == "open",
        )
    ]


def _two_digits(value: float) -> str:
    """Return 0.043, 2.7 and 160: two digits count, and no exponent is shown."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - digits


def _response_ms_p99(result: LoadResult) -> float:
    if not result.completed:
        return 0.0
    return result.summary.histograms["response_time"].quantile(0.99) / NS_PER_MS


def _lag_limits_ms(response_ms: float) -> tuple[float, float]:
    """Return beyond which lag a run is doubted, and beyond which it is invalid."""
    doubted, invalid = (
        max(floor_ms, share * response_ms)
        for share, floor_ms in zip(SCHEDULING_LAG, SCHEDULING_LAG_FLOOR_MS, strict=True)
    )
    return doubted, invalid


def _surroundings(result: LoadResult) -> list[Doubt]:
    around = result.surroundings
    if around is None:
        return []
    found = []
    # A closed loop slows down with its machine; an open loop's schedule does not.
    for share, (doubted, invalid), what in (
        (around.others, OTHERS_CPU, "other processes used"),
        (around.stolen, STOLEN_CPU, "the host took for other machines"),
    ):
        if share > doubted:
            disqualifies = share > invalid and result.loop == "open"
            limit = invalid if disqualifies else doubted
            found.append(
                Doubt(
                    f"{what} more than {limit:.0%} of this machine's CPU time; "
                    "repeat on a quiet machine",
                    invalid=disqualifies,
                )
            )
    return found


def _clocks(result: LoadResult) -> list[Doubt]:
    if result.clock_skew_ns <= CLOCK_SKEW_NS:
        return []
    return [
        Doubt(
            f"the clocks of the machines that made the load may be "
            f"{result.clock_skew_ns / NS_PER_MS:.0f} ms apart, so their shares may not "
            "have started together; compare them on a quieter cluster, and check NTP"
        )
    ]


def _fairness(result: LoadResult) -> list[Doubt]:
    counts = result.operations_by_worker
    if result.loop != "closed" or result.workers == 1 or not counts.any():
        return []
    found = []
    starved = int((counts == 0).sum())
    if starved and counts.mean() >= STARVED_AT:
        found.append(
            Doubt(
                f"{starved} of {result.workers} workers finished nothing: what they "
                "waited is in no figure; use a pool that queues its callers, or fewer "
                "workers",
                invalid=True,
            )
        )
    doubted, invalid = JAIN_INDEX
    index = jain_index(counts)
    if index < doubted and counts.mean() >= STARVED_AT:
        found.append(
            Doubt(
                f"the workers were served unevenly (Jain index below {doubted}): the "
                "quantiles are those of the favoured ones",
                invalid=index < invalid,
            )
        )
    return found


def _accounting(result: LoadResult) -> list[Doubt]:
    found = []
    if result.interrupted:
        found.append(Doubt("the run was interrupted", invalid=True))
    if result.errors:
        listed = ", ".join(f"{name} x{n}" for name, n in result.errors.items())
        found.append(Doubt(f"operations failed: {listed}"))
    if result.unfinished:
        found.append(
            Doubt(
                f"{result.unfinished} operations never returned: their response time "
                "is in no figure",
                invalid=True,
            )
        )
    if result.dropped:
        found.append(
            Doubt(
                f"{result.dropped} of {result.scheduled} arrivals were dropped: the "
                "rate is above what the server serves, and response times grow with "
                "the length of the run; lower the rate"
            )
        )
    if 0 < result.completed < samples_needed(0.99):
        found.append(
            Doubt(
                f"fewer than {samples_needed(0.99)} operations completed: too few for "
                "p99; run longer"
            )
        )
    return found


def _course(result: LoadResult) -> list[Doubt]:
    series = result.completed_per_second
    found = []
    change = drift(series)
    if result.loop == "closed" and abs(change) > DRIFT:
        direction = "rose" if change > 0 else "fell"
        found.append(
            Doubt(
                f"throughput {direction} by more than {DRIFT:.0%} from the first to "
                "the last third of the run: it was not steady; run longer"
            )
        )
    if result.loop == "closed" and warmup_share(series) > WARMUP_SHARE:
        found.append(
            Doubt(
                "the start of the measured phase still looks like warm-up; raise the "
                "warm-up time"
            )
        )
    return found
