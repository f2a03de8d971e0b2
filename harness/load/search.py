"""The highest rate that holds a service level objective, found by search."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_MS
from harness.errors import ConfigError
from harness.load.doubts import doubts_about
from harness.load.intervals import histogram_intervals, quantile_intervals
from harness.load.quantiles import QUANTILES, samples_needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.result import LoadResult

# A queue that grows to the limit only at the end of a run of so many times the limit
# comes from a rate at most 5 % above what the server serves; in a shorter run a
# greater overload would go unseen.
LENGTH_OVER_LIMIT = 20


class Verdict(Enum):
    """What a probe says of its rate."""

    HELD = "held"
    VIOLATED = "violated"
    INVALID = "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What a rate has to hold; dropped or unfinished operations never do.

    Attributes:
        response_time_s: Most the quantile of the response time may be, in seconds.
        quantile: Which one: "p50", "p90", "p95", "p99" or "p99_9".
        errors_share: Most of the operations that may fail, 0 to 1.
    """

    response_time_s: float
    quantile: str = "p99"
    errors_share: float = 0.001

    def __post_init__(self) -> None:
        if self.quantile not in QUANTILES:
            msg = f"quantile must be one of {list(QUANTILES)}, got {self.quantile!r}"
            raise ConfigError(msg)
        if self.response_time_s <= 0:
            msg = f"response_time_s must be > 0, got {self.response_time_s}"
            raise ConfigError(msg)
        if not 0 <= self.errors_share <= 1:
            msg = f"errors_share must be in 0..1, got {self.errors_share}"
            raise ConfigError(msg)

    def describe(self) -> str:
        """Return one line for a report."""
        limit_ms = self.response_time_s * 1000
        return (
            f"{self.quantile} of the response time <= {limit_ms:g} ms, "
            f"errors <= {self.errors_share:.3g} of the operations, none dropped"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One probe judged.

    Attributes:
        verdict: Whether the rate held.
        reason: Why, in words with the figures.
        near: Whether the figure is so near its limit that chance may decide.
        value_ms: The quantile of the objective; None without enough samples.
    """

    verdict: Verdict
    reason: str
    near: bool = False
    value_ms: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One run of the search.

    Attributes:
        rate_per_s: Arrivals offered per second.
        finding: What came of it.
    """

    rate_per_s: float
    finding: Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """What the search found, and every probe it made.

    Attributes:
        held_per_s: The highest rate that held; None if none did.
        violated_per_s: The lowest rate above it that did not; None if all held.
        probes: In the order they were made.
        ended: Why the search ended, in words.
        complete: Whether the two rates are as near as was asked for.
    """

    held_per_s: float | None
    violated_per_s: float | None
    probes: tuple[Probe, ...]
    ended: str
    complete: bool

    def describe(self) -> str:
        """Return one line for a report."""
        held = "no rate held" if self.held_per_s is None else f"{self.held_per_s:.4g}/s"
        above = self.violated_per_s
        next_up = "" if above is None else f", {above:.4g}/s did not hold"
        found = held if self.held_per_s is None else f"{held} held"
        return f"{found}{next_up} ({len(self.probes)} probes; {self.ended})"

    def to_json(self) -> list[dict[str, object]]:
        """Return every probe for a report, in the order they were made."""
        return [
            {
                "rate_per_s": round(probe.rate_per_s, 3),
                "verdict": probe.finding.verdict.value,
                "value_ms": probe.finding.value_ms,
                "reason": probe.finding.reason,
            }
            for probe in self.probes
        ]


def find_capacity(
    run_at: Callable[[float], LoadResult],
    objective: Objective,
    *,
    start_per_s: float,
    min_per_s: float = 1.0,
    max_per_s: float = 1e6,
    tolerance: float = 0.05,
    probes_max: int = 40,
) -> SearchResult:
    """Find the highest rate that holds an objective; see `search_rate`.

    Args:
        run_at: Runs an open loop at a rate, long enough for the quantile and for a
            queue to show: `LENGTH_OVER_LIMIT` times the limit or more.
        objective: What has to hold.
        start_per_s: Where to begin.
        min_per_s: No rate below is tried.
        max_per_s: No rate above is tried.
        tolerance: How near, as a share, the highest rate that held and the lowest
            that did not shall be.
        probes_max: End after as many runs.
    """
    return search_rate(
        lambda rate_per_s: judge(run_at(rate_per_s), objective),
        start_per_s=start_per_s,
        min_per_s=min_per_s,
        max_per_s=max_per_s,
        tolerance=tolerance,
        probes_max=probes_max,
    )


def judge(result: LoadResult, objective: Objective) -> Finding:
    """Say whether a run held an objective, or was none to tell from.

    Operations that never returned are the server's failure to hold, not a reason
    to discard: everything else that makes a result invalid does so here as well.
    """
    key, limit_ms = objective.quantile, objective.response_time_s * 1000
    own_fault = [d for d in doubts_about(replace(result, unfinished=0)) if d.invalid]
    if own_fault:
        return Finding(verdict=Verdict.INVALID, reason=own_fault[0].sentence)
    lost = result.dropped + result.unfinished
    if lost:
        reason = f"{lost} of {result.scheduled} arrivals dropped or unfinished"
        return Finding(verdict=Verdict.VIOLATED, reason=reason)
    if result.failed > objective.errors_share * result.scheduled:
        reason = f"{result.failed} of {result.scheduled} operations failed"
        return Finding(verdict=Verdict.VIOLATED, reason=reason)
    needed = samples_needed(QUANTILES[key])
    if result.completed < needed:
        reason = (
            f"{result.completed} operations are too few for {key}, which needs "
            f"{needed}; run longer"
        )
        return Finding(verdict=Verdict.INVALID, reason=reason)
    length_s = LENGTH_OVER_LIMIT * objective.response_time_s
    if result.wall_s < length_s:
        reason = (
            f"{result.wall_s:.3g} s are too short to see a queue grow to "
            f"{limit_ms:g} ms; run {length_s:g} s or longer"
        )
        return Finding(verdict=Verdict.INVALID, reason=reason)
    value_ms, bounds_ms = _quantile_ms(result, key)
    held = value_ms <= limit_ms
    return Finding(
        verdict=Verdict.HELD if held else Verdict.VIOLATED,
        reason=f"{key} {value_ms:.4g} ms {'<=' if held else '>'} {limit_ms:g} ms",
        near=bounds_ms is None or bounds_ms[0] <= limit_ms <= bounds_ms[1],
        value_ms=round(value_ms, 6),
    )


def search_rate(
    probe_at: Callable[[float], Finding],
    *,
    start_per_s: float,
    min_per_s: float,
    max_per_s: float,
    tolerance: float = 0.05,
    probes_max: int = 40,
) -> SearchResult:
    """Find the highest rate at which *probe_at* holds: bracket, then bisect.

    The rate doubles while it holds or halves while it does not, then the bracket is
    halved on a logarithmic scale. A disturbance makes a run worse, hardly ever
    better, so a rate that clearly held is taken at its word; one that did not hold,
    or is too near its limit to tell, is decided by the majority of three, and the
    upper end is run once more before it is believed. An invalid probe is repeated
    once; a second one ends the search.

    Args:
        probe_at: Runs a probe at a rate and judges it.
        start_per_s: Where to begin.
        min_per_s: No rate below is tried.
        max_per_s: No rate above is tried.
        tolerance: See `find_capacity`.
        probes_max: End after as many runs.

    Raises:
        ConfigError: If an argument is impossible; nothing has been run.
    """
    if not 0 < min_per_s <= start_per_s <= max_per_s < math.inf:
        msg = (
            "needs 0 < min_per_s <= start_per_s <= max_per_s, got "
            f"{min_per_s:g}, {start_per_s:g}, {max_per_s:g}"
        )
        raise ConfigError(msg)
    if tolerance <= 0 or probes_max < 1:
        msg = (
            "tolerance must be > 0 and probes_max >= 1, got "
            f"{tolerance:g} and {probes_max}"
        )
        raise ConfigError(msg)
    search = _Search(probe_at, probes_max)
    try:
        ended = search.run(start_per_s, min_per_s, max_per_s, 1 + tolerance)
        complete = True
    except _EndedError as end:
        ended, complete = str(end), False
    return SearchResult(
        held_per_s=search.held_per_s,
        violated_per_s=search.violated_per_s,
        probes=tuple(search.probes),
        ended=ended,
        complete=complete,
    )


class _EndedError(Exception):
    """The search cannot go on."""


class _Search:
    """The state of one search."""

    def __init__(self, probe_at: Callable[[float], Finding], probes_max: int) -> None:
        self._probe_at = probe_at
        self._probes_max = probes_max
        self.probes: list[Probe] = []
        self.held_per_s: float | None = None
        self._violated: list[float] = []

    @property
    def violated_per_s(self) -> float | None:
        """The lowest rate that did not hold."""
        return min(self._violated, default=None)

    def run(self, start: float, low: float, high: float, ratio: float) -> str:
        """Search; return why it ended."""
        rate_per_s = start
        while True:
            if self._holds(rate_per_s):
                self.held_per_s = rate_per_s
            else:
                self._violated.append(rate_per_s)
            held, violated = self.held_per_s, self.violated_per_s
            if held is None:
                if rate_per_s <= low:
                    return f"not even {low:g}/s, the lowest rate to try, held"
                rate_per_s = max(low, rate_per_s / 2)
            elif violated is None:
                if rate_per_s >= high:
                    return f"{high:g}/s, the highest rate to try, held"
                rate_per_s = min(high, rate_per_s * 2)
            elif violated <= held * ratio:
                if self._violated_after_all(violated):
                    return f"known to {ratio - 1:.0%}"
                rate_per_s = violated
            else:
                rate_per_s = math.sqrt(held * violated)

    def _holds(self, rate_per_s: float) -> bool:
        first = self._valid(rate_per_s)
        if first.verdict is Verdict.HELD and not first.near:
            return True
        votes = [first.verdict, self._valid(rate_per_s).verdict]
        if votes[0] is not votes[1]:
            votes.append(self._valid(rate_per_s).verdict)
        return votes[-1] is Verdict.HELD

    def _violated_after_all(self, rate_per_s: float) -> bool:
        """Run the upper end once more; if it clearly holds, forget that it did not."""
        again = self._valid(rate_per_s)
        if again.verdict is Verdict.HELD and not again.near:
            self._violated.remove(rate_per_s)
            return False
        return True

    def _valid(self, rate_per_s: float) -> Finding:
        """Probe a rate; repeat once what was no result."""
        finding = self._probe(rate_per_s)
        if finding.verdict is Verdict.INVALID:
            finding = self._probe(rate_per_s)
        if finding.verdict is Verdict.INVALID:
            msg = f"invalid twice at {rate_per_s:.4g}/s: {finding.reason}"
            raise _EndedError(msg)
        return finding

    def _probe(self, rate_per_s: float) -> Finding:
        if len(self.probes) >= self._probes_max:
            msg = f"{self._probes_max} probes were made, the most allowed"
            raise _EndedError(msg)
        finding = self._probe_at(rate_per_s)
        self.probes.append(Probe(rate_per_s=rate_per_s, finding=finding))
        return finding


def _quantile_ms(
    result: LoadResult, key: str
) -> tuple[float, tuple[float, float] | None]:
    """Return a quantile of the response time and its interval."""
    if result.folded is not None:
        histogram = result.folded.histograms["response_time"]
        value_ns = histogram.quantile(QUANTILES[key])
        bounds_ns = histogram_intervals(histogram).get(key)
    else:
        good = result.samples.where(result.samples.succeeded)
        order = np.argsort(good.intended_ns, kind="stable")
        response_ns = good.response_time_ns[order]
        value_ns = float(np.quantile(response_ns, QUANTILES[key]))
        bounds_ns = quantile_intervals(response_ns).get(key)
    if bounds_ns is None:
        return value_ns / NS_PER_MS, None
    return value_ns / NS_PER_MS, (bounds_ns[0] / NS_PER_MS, bounds_ns[1] / NS_PER_MS)
