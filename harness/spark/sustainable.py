"""The highest rate a stream keeps up with: bracketed, bisected, with its interval.

The bisection is that of `harness.load.search`: a rate that clearly held is believed,
any other is decided by the majority of three. What is judged is the trend of the
backlog (`harness.spark.sustain`) and, where a limit is given, how long rows waited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import ConfigError
from harness.load.search import Finding, SearchResult, Verdict, search_rate
from harness.spark.lab import Query
from harness.spark.progress import MS_PER_S
from harness.spark.stream_record import waits_s
from harness.spark.sustain import HEADROOM, TooFewBatchesError, Trend, backlog_trend

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.spark.feed import Feed
    from harness.spark.lab import Lab, Run
    from harness.spark.noise import Floats

# Of a run that begins with an empty backlog, and with code that is not compiled yet.
WARMUP_SHARE = 0.25
RATE_MIN_PER_S = 1.0
_GENERATOR_BATCHES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamProbe:
    """One rate, offered to a stream for some time.

    Attributes:
        rate_per_s: Rows due per second, evenly.
        run: What ran; one query with one feed.
        feed: Its feed.
        since_ns: When the first row was due, in nanoseconds since 1970.
        duration_s: For how long rows came, in seconds.
    """

    rate_per_s: float
    run: Run
    feed: Feed
    since_ns: int
    duration_s: float

    def trend(self) -> Trend:
        """Return how the backlog went after the warm-up.

        Raises:
            TooFewBatchesError: If there is nothing to tell it from.
        """
        return backlog_trend(
            self.run.all_batches,
            self.feed,
            since_ns=self.since_ns,
            rate_per_s=self.rate_per_s,
            warmup_s=self.duration_s * WARMUP_SHARE,
        )

    def waits_s(self) -> Floats:
        """Return how long each row waited, of those due after the warm-up."""
        waited = waits_s(self.run.all_batches, self.feed, since_ns=self.since_ns)
        due_s = self.feed.due_s(np.arange(len(waited), dtype=np.int64))
        return waited[due_s >= self.duration_s * WARMUP_SHARE]


@dataclass(frozen=True, kw_only=True, slots=True)
class SustainableRate:
    """What a search found.

    Attributes:
        search: The rates, and every probe.
        generator_per_s: What the generator alone makes.
        best: The last probe of the highest rate that held; None if none did.
    """

    search: SearchResult
    generator_per_s: float
    best: StreamProbe | None

    @property
    def invalid(self) -> str | None:
        """Why this is no result; None if it is one."""
        if self.search.held_per_s is None or not self.search.complete:
            return f"no sustainable rate: {self.search.describe()}"
        if self.search.violated_per_s is None:
            return (
                f"{self.search.held_per_s:.4g} rows/s held, and the generator, which "
                f"makes {self.generator_per_s:.4g} rows/s, can be trusted with no more "
                f"(1/{HEADROOM:g}): the limit of the stream lies above"
            )
        return None

    def figures(self) -> dict[str, Any]:
        """Return what a record says of it; rates in rows per second."""
        return {
            "sustainable_per_s": _rounded(self.search.held_per_s),
            "unsustainable_per_s": _rounded(self.search.violated_per_s),
            "generator_per_s": round(self.generator_per_s),
            "probes": self.search.to_json(),
        }


def probe_stream(
    lab: Lab,
    query: Query,
    *,
    rate_per_s: float,
    duration_s: float,
    trigger_s: float = 0.0,
) -> StreamProbe:
    """Offer a rate to a stream; its one feed must be due at that rate.

    Args:
        lab: Runs it.
        query: With one feed.
        rate_per_s: Rows due per second.
        duration_s: How long it runs, in seconds.
        trigger_s: See `Lab.run_live`.

    Raises:
        ConfigError: If the query has not exactly one feed.
    """
    if len(query.feeds) != 1:
        msg = f"query {query.name!r} must have one feed, got {len(query.feeds)}"
        raise ConfigError(msg)
    run, since_ns = lab.run_live(query, duration_s=duration_s, trigger_s=trigger_s)
    return StreamProbe(
        rate_per_s=rate_per_s,
        run=run,
        feed=query.feeds[0],
        since_ns=since_ns,
        duration_s=duration_s,
    )


def judge_stream(probe: StreamProbe, *, wait_max_s: float | None = None) -> Finding:
    """Say whether a stream kept up with a rate, or cannot be told to have.

    Args:
        probe: What ran.
        wait_max_s: Most that 99 % of the rows may wait from when they were due until
            they were visible, in seconds; None: only the backlog counts.
    """
    try:
        trend = probe.trend()
    except TooFewBatchesError as error:
        return Finding(verdict=Verdict.INVALID, reason=str(error))
    waited = probe.waits_s()
    p99_s = float(np.quantile(waited, 0.99)) if len(waited) else None
    value_ms = None if p99_s is None else round(p99_s * MS_PER_S, 3)
    share = trend.slope_per_s / trend.rate_per_s
    error_share = trend.slope_error_per_s / trend.rate_per_s
    reason = f"backlog grows by {share:.1%} of the rate (+- {error_share:.1%})"
    if not trend.sustained:
        return Finding(verdict=Verdict.VIOLATED, reason=reason, value_ms=value_ms)
    if not trend.decided:
        return Finding(
            verdict=Verdict.INVALID,
            reason=f"{reason}: too short or too noisy to tell",
            value_ms=value_ms,
        )
    if wait_max_s is not None and (p99_s is None or p99_s > wait_max_s):
        found = "no row was visible" if p99_s is None else f"p99 {value_ms:.4g} ms"
        return Finding(
            verdict=Verdict.VIOLATED,
            reason=f"{found}, the limit is {wait_max_s * MS_PER_S:g} ms",
            value_ms=value_ms,
        )
    return Finding(
        verdict=Verdict.HELD,
        reason=reason,
        # It held only by the benefit of its standard error.
        near=not trend.clearly_sustained,
        value_ms=value_ms,
    )


def find_sustainable_rate(
    probe_at: Callable[[float], StreamProbe],
    *,
    start_per_s: float,
    generator_per_s: float,
    wait_max_s: float | None = None,
    tolerance: float = 0.1,
    probes_max: int = 20,
) -> SustainableRate:
    """Find the highest rate that a stream sustains; see `search_rate`.

    No rate is tried that the generator could not make 1.25 times (`HEADROOM`).

    Args:
        probe_at: Offers a rate to a fresh run of the stream: `probe_stream`.
        start_per_s: Where to begin, such as half of what it does in a closed loop.
        generator_per_s: What the generator alone makes: `generator_ceiling_per_s`.
        wait_max_s: See `judge_stream`.
        tolerance: How near, as a share, the highest rate that held and the lowest
            that did not shall be.
        probes_max: End after as many probes.

    Raises:
        ConfigError: If the generator is too slow for the start, or an argument is
            impossible; nothing has been run.
    """
    most_per_s = generator_per_s / HEADROOM
    if start_per_s > most_per_s:
        msg = (
            f"start_per_s must be at most {most_per_s:.4g}, the generator's "
            f"{generator_per_s:.4g} rows/s divided by {HEADROOM:g}, got "
            f"{start_per_s:.4g}"
        )
        raise ConfigError(msg)
    held: dict[float, StreamProbe] = {}

    def judged(rate_per_s: float) -> Finding:
        probe = probe_at(rate_per_s)
        finding = judge_stream(probe, wait_max_s=wait_max_s)
        if finding.verdict is Verdict.HELD:
            held[rate_per_s] = probe
        return finding

    search = search_rate(
        judged,
        start_per_s=start_per_s,
        min_per_s=min(RATE_MIN_PER_S, start_per_s),
        max_per_s=most_per_s,
        tolerance=tolerance,
        probes_max=probes_max,
    )
    best = None if search.held_per_s is None else held[search.held_per_s]
    return SustainableRate(search=search, generator_per_s=generator_per_s, best=best)


def generator_ceiling_per_s(lab: Lab, feed: Feed) -> float:
    """Measure how many rows per second a feed makes for a sink that drops them.

    Closed loop; the median of its micro-batches after the first, in rows per second.
    """
    query = Query(
        name="nowhere", feeds=(feed,), into="", batches_count=_GENERATOR_BATCHES
    )
    batches = lab.run(query, metered=False).batches[query.name][1:]
    return float(np.median([b.rows_count / b.duration_s for b in batches]))


def _rounded(rate_per_s: float | None) -> float | None:
    return None if rate_per_s is None else round(rate_per_s, 1)
