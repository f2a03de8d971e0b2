"""The figures as OpenTelemetry metrics, under the names of its conventions."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_S
from harness.errors import ConfigError
from harness.lakebase.monitoring.exposition import BUCKETS_S
from harness.lakebase.monitoring.pool_watch import between
from harness.load.histogram import LogLinearHistogram, bucket_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from harness.lakebase.monitoring.pool_watch import WatchedPool
    from harness.postgres.pool import PoolMetrics

POOL_NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"
# A histogram of OpenTelemetry takes one value a call, 4 us each. Past so many in one
# collection they are thinned at random, and what was left out is counted.
VALUES_MAX = 20_000
SEED = 1

# Our distributions by the conventions' names.
HISTOGRAMS = {
    "checkout_wait": ("db.client.connection.wait_time", "Time to get a connection."),
    "usage_time": ("db.client.connection.use_time", "Time a connection was out."),
    "connect_time": ("db.client.connection.create_time", "Time to open one."),
    "wake_time": ("lakegauge.connection.wake_time", "Time to open one and wake."),
}

logger = logging.getLogger(__name__)


class PoolTelemetry:
    """Publishes one pool to a meter.

    Counts and gauges are observed whenever the meter's reader collects. Durations
    are handed over by `publish`, which the collection thread calls: a checkout
    itself never pays for it.

    Args:
        pool: The pool.
        meter: Where to publish; None takes the global provider's, which does
            nothing until the application sets one up.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(self, pool: WatchedPool, *, meter: Meter | None = None) -> None:
        self._pool = pool
        self._attributes = {POOL_NAME: pool.name}
        self._published: PoolMetrics = pool.metrics()
        self._random = np.random.default_rng(SEED)
        self._left_out = 0
        meter = meter or _global_meter()
        self._histograms = {
            field: meter.create_histogram(
                name,
                unit="s",
                description=text,
                explicit_bucket_boundaries_advisory=list(BUCKETS_S),
            )
            for field, (name, text) in HISTOGRAMS.items()
        }
        self._observe(meter)

    def publish(self) -> None:
        """Hand over the durations since the last call."""
        now = self._pool.metrics()
        news = between(now, self._published)
        self._published = now
        for field, instrument in self._histograms.items():
            for value_s in self._values_s(getattr(news, field)):
                instrument.record(value_s, self._attributes)

    def _values_s(self, histogram: LogLinearHistogram) -> Iterator[float]:
        filled = np.flatnonzero(histogram.counts)
        low, high = bucket_bounds(filled)
        counts = histogram.counts[filled]
        total = int(counts.sum())
        if total > VALUES_MAX:
            counts = self._random.multivariate_hypergeometric(
                counts, VALUES_MAX, method="marginals"
            )
            self._left_out += total - VALUES_MAX
            logger.debug("%d of %d durations are published", VALUES_MAX, total)
        middles_s = (low + high) / 2 / NS_PER_S
        for middle_s, count in zip(middles_s.tolist(), counts.tolist(), strict=True):
            for _ in range(count):
                yield middle_s

    def _observe(self, meter: Meter) -> None:
        pool = self._pool
        counter = meter.create_observable_counter
        level = meter.create_observable_up_down_counter
        level(
            "db.client.connection.count",
            [self._by_state],
            unit="{connection}",
            description="Connections open now, by state.",
        )
        levels: dict[str, tuple[str, Callable[[], int | None]]] = {
            "idle.max": ("{connection}", lambda: pool.config.size_max),
            "idle.min": ("{connection}", lambda: pool.config.size_min),
            "max": ("{connection}", lambda: pool.config.size_max),
            "pending_requests": ("{request}", lambda: pool.stats().waiting),
        }
        for name, (unit, read) in levels.items():
            level(f"db.client.connection.{name}", [self._one(read)], unit=unit)
        counter(
            "db.client.connection.timeouts",
            [self._one(lambda: pool.metrics().checkout_timeouts_count)],
            unit="{timeout}",
            description="Checkouts that got no connection in time.",
        )
        for field in fields(type(self._published)):
            if field.name.endswith("_count") and "timeouts" not in field.name:
                counter(
                    f"lakegauge.pool.{field.name.removesuffix('_count')}",
                    [self._one(lambda n=field.name: getattr(pool.metrics(), n))],  # type: ignore[misc]
                    unit="1",
                )
        counter(
            "lakegauge.telemetry.values_left_out",
            [self._one(lambda: self._left_out)],
            unit="1",
            description="Durations not handed over, because they were too many.",
        )

    def _by_state(self, _options: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        stats = self._pool.stats()
        for state, count in (("used", stats.in_use), ("idle", stats.idle)):
            yield Observation(count, {**self._attributes, STATE: state})

    def _one(
        self, read: Callable[[], int | None]
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            value = read()
            if value is not None:
                yield Observation(value, self._attributes)

        return observe


def _global_meter() -> Meter:
    try:
        from opentelemetry import metrics
    except ModuleNotFoundError as error:
        msg = f"OpenTelemetry metrics need {error.name}: pip install 'lakegauge[otel]'"
        raise ConfigError(msg) from None

    return metrics.get_meter("lakegauge")
