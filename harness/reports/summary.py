"""From measured durations to the numbers of a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_MS, NS_PER_S
from harness.load import (
    QUANTILES,
    LogLinearHistogram,
    corrected_curve,
    samples_needed,
    supported_quantiles,
)
from harness.load.doubts import doubts_about
from harness.load.intervals import histogram_intervals, quantile_intervals
from harness.reports.record import Accounting, CaseBlock, Fact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from harness.load import LoadResult

# Values handed to pytest-benchmark one by one, and the most raw data a report
# keeps per case: 10,000 values are 0.4 MB of JSON.
REPLAY_BUDGET = 10_000
# Seconds of a run whose completed operations are listed one by one.
SERIES_MAX = 3600
# The parts that response time is the sum of.
SPLIT = ("start_delay", "checkout_wait", "service_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A case measured outside pytest-benchmark, ready to be filed.

    Attributes:
        kind: See `CaseBlock.kind`.
        measure: What the values are.
        values_s: The compared values in seconds, shape (n,), n >= 1; evenly ranked
            ones where *histogram* is given.
        completed: Operations that count towards the throughput.
        wall_s: Time they took together, in seconds.
        block: The parts of the `CaseBlock` known already.
        histogram: All values, where they were too many to keep one by one.
        invalid: Why this is no result; None if it is one.
    """

    kind: str
    measure: str
    values_s: npt.NDArray[np.float64]
    completed: int
    wall_s: float
    block: dict[str, Any] = field(default_factory=dict)
    histogram: LogLinearHistogram | None = None
    invalid: str | None = None

    @property
    def values_count(self) -> int:
        """How many values there were, whether or not each was kept."""
        return len(self.values_s) if self.histogram is None else len(self.histogram)

    @property
    def throughput_per_s(self) -> float:
        """Completed operations per second of wall time."""
        return self.completed / self.wall_s

    @property
    def errors_count(self) -> int:
        """Operations that did not complete."""
        return sum(self.block.get("errors", {}).values())

    def replayed_s(self) -> list[float]:
        """Return the values to replay: all within the budget, else evenly ranked.

        The middle of each of `REPLAY_BUDGET` equal groups of the sorted values
        keeps every quantile; exact statistics of all values replace what
        pytest-benchmark computes from them (see `exact_stats`).
        """
        count = len(self.values_s)
        if count <= REPLAY_BUDGET:
            return [float(value) for value in self.values_s]
        ranks = (np.arange(REPLAY_BUDGET) + 0.5) * count / REPLAY_BUDGET
        return [float(value) for value in np.sort(self.values_s)[ranks.astype(int)]]


def measurement_of_load(result: LoadResult, *, measure: str) -> Measurement:
    """Summarise a load run; its response times are the compared values.

    Raises:
        ValueError: If no operation completed: there is nothing to compare.
    """
    if not result.completed:
        msg = f"no operation completed (errors: {result.errors or 'none'})"
        raise ValueError(msg)
    histogram = None
    if result.folded is None:
        good = result.samples.where(result.samples.succeeded)
        values_s = good.response_time_ns / NS_PER_S
        split_ms = {part: _quantiles_ms(getattr(good, f"{part}_ns")) for part in SPLIT}
        # In the order of arrival: what neighbours share widens an interval.
        order = np.argsort(good.intended_ns, kind="stable")
        bounds_ns = quantile_intervals(good.response_time_ns[order])
    else:
        parts = result.folded.histograms
        histogram = parts["response_time"]
        ranks = (np.arange(REPLAY_BUDGET) + 0.5) / REPLAY_BUDGET
        values_s = histogram.quantiles(ranks) / NS_PER_S
        split_ms = {part: _histogram_quantiles_ms(parts[part]) for part in SPLIT}
        bounds_ns = histogram_intervals(histogram, dependence=result.folded.dependence)
    doubts = doubts_about(result)
    disqualifying = [doubt.sentence for doubt in doubts if doubt.invalid]
    return Measurement(
        invalid="; ".join(disqualifying) or None,
        kind=f"{result.loop}_loop",
        measure=measure,
        values_s=values_s,
        completed=result.completed,
        wall_s=result.wall_s,
        histogram=histogram,
        block={
            "accounting": Accounting(
                scheduled=result.scheduled,
                completed=result.completed,
                failed=result.failed,
                dropped=result.dropped,
                unfinished=result.unfinished,
                warmup=len(result.warmup),
            ),
            "workers": result.workers,
            "processes": result.processes,
            "schedule": result.schedule,
            "crewing": result.crewing,
            "interrupted": result.interrupted,
            "errors": result.errors,
            "split_ms": split_ms,
            "per_second": result.completed_per_second[:SERIES_MAX].astype(int).tolist(),
            "intervals_ms": _in_ms(bounds_ns, unit_ns=1),
            "doubts": [doubt.sentence for doubt in doubts],
            "generator_cpu_utilization": round(result.generator_cpu_utilization, 4),
            "corrected_ms": (
                corrected_curve(result).side_by_side_ms()
                if result.loop == "closed" and result.wall_ns
                else {}
            ),
        },
    )


def measurement_of_durations(
    durations_s: Sequence[float],
    *,
    measure: str,
    wall_s: float,
    completed: int | None = None,
    failed: Mapping[str, int] | None = None,
    details: Mapping[str, Any] | None = None,
    invalid: str | None = None,
) -> Measurement:
    """Summarise durations that a subject measured itself; *invalid* says why not.

    Raises:
        ValueError: If there is no duration, or one is negative or not finite.
    """
    values_s = np.asarray(durations_s, dtype=np.float64)
    if not len(values_s) or not np.isfinite(values_s).all() or (values_s < 0).any():
        msg = f"needs durations that are finite and >= 0, got {durations_s!r:.200}"
        raise ValueError(msg)
    if wall_s <= 0:
        msg = f"wall_s must be > 0, got {wall_s}"
        raise ValueError(msg)
    errors = dict(failed or {})
    done = len(values_s) if completed is None else completed
    return Measurement(
        invalid=invalid,
        kind="series",
        measure=measure,
        values_s=values_s,
        completed=done,
        wall_s=wall_s,
        block={
            "accounting": Accounting(
                scheduled=done + sum(errors.values()),
                completed=done,
                failed=sum(errors.values()),
                dropped=0,
                unfinished=0,
            ),
            "errors": errors,
            "intervals_ms": _in_ms(quantile_intervals(values_s), unit_ns=NS_PER_S),
            "doubts": _failures(errors),
            "details": dict(details or {}),
        },
    )


def case_block(measurement: Measurement, *, facts: Mapping[str, Fact]) -> CaseBlock:
    """Complete the block of a case measured outside pytest-benchmark."""
    histogram = measurement.histogram
    if histogram is None:
        values_ns = np.rint(measurement.values_s * NS_PER_S).astype(np.int64)
        histogram = LogLinearHistogram.of(values_ns)
    return CaseBlock.model_validate(
        {
            **measurement.block,
            "kind": measurement.kind,
            "measure": measurement.measure,
            "facts": dict(facts),
            "wall_s": measurement.wall_s,
            "histogram": histogram.to_json(),
            "values_count": len(histogram),
        }
    )


def micro_block(data_s: Sequence[float], *, facts: Mapping[str, Fact]) -> CaseBlock:
    """Build the block of a case that pytest-benchmark timed itself."""
    values_ns = np.rint(np.asarray(data_s) * NS_PER_S).astype(np.int64)
    return CaseBlock(
        kind="micro",
        measure="round_time",
        facts=dict(facts),
        intervals_ms=_in_ms(quantile_intervals(values_ns), unit_ns=1),
        histogram=LogLinearHistogram.of(values_ns).to_json(),
        values_count=len(values_ns),
    )


def measured_stats(measurement: Measurement) -> dict[str, Any]:
    """Return the fields of `stats` that pytest-benchmark cannot know, in seconds.

    `ops` is 1/mean there, which for concurrent callers is not operations per second.
    """
    histogram = measurement.histogram
    fields: dict[str, Any] = {}
    if histogram is not None:
        fields |= exact_stats(measurement.values_s)
        fields["rounds"] = len(histogram)
        fields["min"] = histogram.value_min / NS_PER_S
        fields["max"] = histogram.value_max / NS_PER_S
        fields |= {
            key: value / 1000
            for key, value in _histogram_quantiles_ms(histogram).items()
        }
    else:
        if len(measurement.values_s) > REPLAY_BUDGET:
            fields |= exact_stats(measurement.values_s)
        fields |= supported_quantiles(measurement.values_s)
    throughput = measurement.throughput_per_s
    return fields | {
        "ops": throughput,
        "throughput": throughput,
        "errors": measurement.errors_count,
    }


def exact_stats(values_s: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return pytest-benchmark's own fields computed from all values, in seconds.

    Quartiles interpolate linearly, where pytest-benchmark averages neighbours: at
    more than `REPLAY_BUDGET` values the difference is below their spacing.
    """
    q1, median, q3 = (float(v) for v in np.quantile(values_s, [0.25, 0.5, 0.75]))
    mean, stddev = float(values_s.mean()), float(values_s.std(ddof=1))
    iqr = q3 - q1
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    inside = values_s[(values_s >= low) & (values_s <= high)]
    iqr_outliers = len(values_s) - len(inside)
    stddev_outliers = int((np.abs(values_s - mean) > stddev).sum())
    return {
        "min": float(values_s.min()),
        "max": float(values_s.max()),
        "mean": mean,
        "stddev": stddev,
        "rounds": len(values_s),
        "median": median,
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": iqr_outliers,
        "stddev_outliers": stddev_outliers,
        "outliers": f"{stddev_outliers};{iqr_outliers}",
        "ld15iqr": float(inside.min()),
        "hd15iqr": float(inside.max()),
        "total": float(values_s.sum()),
    }


def _failures(errors: Mapping[str, int]) -> list[str]:
    listed = ", ".join(f"{name} x{count}" for name, count in errors.items())
    return [f"operations failed: {listed}"] if errors else []


def _histogram_quantiles_ms(histogram: LogLinearHistogram) -> dict[str, float]:
    return {
        key: histogram.quantile(q) / NS_PER_MS
        for key, q in QUANTILES.items()
        if len(histogram) >= samples_needed(q)
    }


def _in_ms(
    bounds: Mapping[str, tuple[float, float]], *, unit_ns: int
) -> dict[str, tuple[float, float]]:
    return {
        key: (
            round(low * unit_ns / NS_PER_MS, 6),
            round(high * unit_ns / NS_PER_MS, 6),
        )
        for key, (low, high) in bounds.items()
    }


def _quantiles_ms(values_ns: npt.NDArray[np.int64]) -> dict[str, float]:
    found = supported_quantiles(values_ns)
    return {key: round(value / NS_PER_MS, 6) for key, value in found.items()}
