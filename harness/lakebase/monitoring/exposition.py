"""The figures as Prometheus text, for a server that comes to fetch them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import ConfigError
from harness.lakebase.monitoring.times import total_ns
from harness.load.histogram import bucket_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from harness.lakebase.monitoring.performance import PerformanceMonitor
    from harness.lakebase.monitoring.pool_watch import PoolView
    from harness.load.histogram import LogLinearHistogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper ends in seconds: from a checkout of an idle connection to a stalled pool.
BUCKETS_S = (
    *(0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


def prometheus_text(monitor: PerformanceMonitor) -> str:
    """Return the monitor's pool and operations in the text format 0.0.4.

    Totals are of the whole run and never go down, as Prometheus expects: rates and
    windows are computed there.

    Raises:
        ConfigError: prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ModuleNotFoundError as error:
        msg = f"Prometheus text needs {error.name}: pip install 'lakegauge[monitor]'"
        raise ConfigError(msg) from None

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(monitor))
    return generate_latest(registry).decode()


def cumulative(
    histogram: LogLinearHistogram, bounds_s: tuple[float, ...]
) -> list[tuple[str, float]]:
    """Return the counts at or below each bound, ending with all of them.

    A bucket that a bound cuts in two counts above it: at most 0.8 % of the bound.
    """
    filled = np.flatnonzero(histogram.counts)
    _, high_ns = bucket_bounds(filled)
    sums = np.concatenate([[0], np.cumsum(histogram.counts[filled])])
    ends = np.searchsorted(high_ns, np.array(bounds_s) * NS_PER_S, side="right")
    counts = [(f"{b:g}", float(sums[e])) for b, e in zip(bounds_s, ends, strict=True)]
    assert all(low <= high for (_, low), (_, high) in pairwise(counts))  # noqa: S101
    return [*counts, ("+Inf", float(sums[-1]))]


class _Figures:
    """A collector: called at every scrape, so that nothing is kept twice."""

    def __init__(self, monitor: PerformanceMonitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        pool = self._monitor.pool_view()
        if pool is not None:
            yield from _pool_families(pool)
        yield from self._operation_families()

    def _operation_families(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        durations = HistogramMetricFamily(
            "lakegauge_operation_duration_seconds",
            "Duration of operations, failed ones included.",
            labels=["operation"],
        )
        failures = CounterMetricFamily(
            "lakegauge_operation_failures",
            "Operations that failed, by category.",
            labels=["operation", "category"],
        )
        for name, times in sorted(self._monitor.wholes().items()):
            durations.add_metric(
                [name],
                cumulative(times.histogram, BUCKETS_S),
                sum_value=times.total_ns / NS_PER_S,
            )
        for name, operation in self._monitor.operation_stats().items():
            for category, count in operation["errors_by_category"].items():
                failures.add_metric([name, category], count)
        yield durations
        yield failures


def _pool_families(view: PoolView) -> Iterator[Metric]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    prefix, pool = "lakegauge_pool", [view.name]
    connections = GaugeMetricFamily(
        f"{prefix}_connections", "Open connections.", labels=["pool", "state"]
    )
    connections.add_metric([*pool, "used"], view.stats.in_use)
    connections.add_metric([*pool, "idle"], view.stats.idle)
    yield connections
    gauges: dict[str, tuple[str, float | None]] = {
        "connections_max": ("Hard bound on connections.", view.stats.size_max),
        "connections_kept": ("Connections kept open.", view.size_kept),
        "callers_waiting": ("Callers queued for one.", view.stats.waiting),
    }
    for name, (text, value) in gauges.items():
        if value is None:
            continue  # This engine does not tell; 0 would be a claim.
        gauge = GaugeMetricFamily(f"{prefix}_{name}", text, labels=["pool"])
        gauge.add_metric(pool, value)
        yield gauge
    whole = view.whole
    counters = {
        "checkouts": ("Checkouts that got a connection.", whole.checkouts_count),
        "checkins": ("Connections given back.", whole.checkins_count),
        "checkout_timeouts": (
            "Checkouts that got none in time.",
            whole.checkout_timeouts_count,
        ),
        "connect_failures": (
            "Attempts to connect that failed.",
            whole.connect_failures_count,
        ),
        "connections_opened": ("Connections opened.", whole.opened_count),
        "connections_closed": ("Connections closed.", whole.closed_count),
        "leaks": ("Checkouts held too long.", whole.leaks_count),
    }
    for name, (text, count) in counters.items():
        counter = CounterMetricFamily(f"{prefix}_{name}", text, labels=["pool"])
        counter.add_metric(pool, count)
        yield counter
    histograms = {
        "checkout_wait": ("Asked for until got.", whole.checkout_wait),
        "usage_time": ("Got until given back.", whole.usage_time),
        "connect_time": ("Opening one connection.", whole.connect_time),
        "wake_time": ("Opening one that woke the server.", whole.wake_time),
    }
    for name, (text, histogram) in histograms.items():
        family = HistogramMetricFamily(
            f"{prefix}_{name}_seconds", text, labels=["pool"]
        )
        family.add_metric(
            pool,
            cumulative(histogram, BUCKETS_S),
            sum_value=total_ns(histogram) / NS_PER_S,
        )
        yield family
