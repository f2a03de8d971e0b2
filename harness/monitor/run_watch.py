"""What a run of benchmarks can tell of itself: its load, its errors, how it fares."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_MS, SYSTEM_CLOCK, Clock
from harness.load.underway import FAILURES, FailureKind, Failures, LoadWatch
from harness.monitor.run_health import RunHealth
from harness.postgres.classify import classify_sqlstate, classify_type
from harness.reports.live import (
    LiveData,
    LiveError,
    LiveErrors,
    LiveLoad,
    LiveTimes,
)
from harness.settings import redact

if TYPE_CHECKING:
    from harness.errors import Classification
    from harness.load.samples import Nanoseconds

_QUANTILES = (0.5, 0.95, 0.99)
# More of them would cost the run that is watched, and show nothing else on a chart.
_VALUES_MAX = 4096
# They are of the last second, however often somebody asks.
_PERCENTILES_EVERY_NS = 900_000_000


class RunWatch:
    """Looks at the loads of this process; one per run, asked by one thread.

    Args:
        clock: Dates what is said.
        failures: What failed in this process; what did before is not this run's.
    """

    def __init__(
        self, *, clock: Clock = SYSTEM_CLOCK, failures: Failures = FAILURES
    ) -> None:
        self._failures = failures
        self._before = failures.counts()
        self._began_at = clock.now()
        self._load = LoadWatch(
            clock=clock, failures=failures, every_ns=_PERCENTILES_EVERY_NS
        )
        self._times: tuple[Nanoseconds | None, LiveTimes | None] = (None, None)
        self._health = RunHealth(clock)

    def completed(self, data: LiveData, *, case: str | None) -> LiveData:
        """Return what the subjects say, with the load, the errors and the health.

        Args:
            data: What the subjects of the case say.
            case: Its node id; None between two.
        """
        errors, load = self._errors(), self._load_of(case)
        data = data.model_copy(update={"load": load, "errors": errors})
        return data.model_copy(update={"health": self._health.judge(data)})

    def _load_of(self, case: str | None) -> LiveLoad | None:
        now = self._load.look()
        if now is None or case is None:
            return None
        return LiveLoad(
            case=case,
            throughput_per_s=now.completed_per_s,
            response_time=self._times_of(now.response_time_ns),
            errors_total=now.failed,
            completed_total=now.completed,
            workers=now.workers,
            in_flight=now.in_flight,
        )

    def _times_of(self, values_ns: Nanoseconds) -> LiveTimes | None:
        if self._times[0] is not values_ns:
            self._times = (values_ns, _times(values_ns))
        return self._times[1]

    def _errors(self) -> LiveErrors:
        counts = self._failures.counts()
        counts.subtract(self._before)
        by_category: Counter[str] = Counter()
        for kind, count in counts.items():
            if count:
                by_category[meaning_of(kind).category.value] += count
        last = [one for one in self._failures.last() if one.at >= self._began_at]
        return LiveErrors(
            total_errors=counts.total(),
            error_counts_by_category=dict(by_category),
            recent_errors=tuple(
                LiveError(
                    timestamp=one.at,
                    category=(meaning := meaning_of(one.kind)).category.value,
                    severity=meaning.severity.value,
                    operation=one.kind.type.__name__,
                    message=redact(one.message),
                )
                for one in reversed(last)
            ),
        )


def meaning_of(kind: FailureKind) -> Classification:
    """Return what a kind of failure means."""
    if kind.classification is not None:
        return kind.classification
    if kind.sqlstate is not None:
        return classify_sqlstate(kind.sqlstate)
    return classify_type(kind.type)


def _times(values_ns: Nanoseconds) -> LiveTimes | None:
    if not len(values_ns):
        return None
    some_ns = np.sort(values_ns[:: len(values_ns) // _VALUES_MAX + 1])
    # As `np.quantile` does it with "inverted_cdf", for a third of the time.
    at = [math.ceil(q * len(some_ns)) - 1 for q in _QUANTILES]
    p50, p95, p99 = (float(some_ns[index]) / NS_PER_MS for index in at)
    return LiveTimes(count=len(values_ns), p50_ms=p50, p95_ms=p95, p99_ms=p99)
