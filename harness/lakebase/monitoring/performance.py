"""Counts and times operations, and says what they and the pool have been doing."""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, ErrorCategory, HarnessError, Severity
from harness.lakebase.classify import classify
from harness.lakebase.monitoring.alerts import Alert, AlertThresholds, alerts_of
from harness.lakebase.monitoring.pool_watch import PoolView, PoolWatch
from harness.lakebase.monitoring.times import (
    SLOTS_PER_WINDOW,
    OperationTimes,
    Times,
    merged,
)
from harness.lakebase.monitoring.timing import PerformanceTimer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from harness.lakebase.monitoring.pool_watch import WatchedPool

    # Name, when it ended, how long it took, why it failed, what to remember of it.
    _Row = tuple[str, int, int, str | None, Mapping[str, Any] | None]

WINDOW_S = 300.0
# Operations are told apart by name. A name made from an id would fill the memory:
# whatever comes after so many goes into one.
OPERATIONS_MAX = 200
OTHER = "(other operations)"
ERROR_EVENTS_MAX = 1000
# Folded by whoever records the last of so many, 0.2 us an operation.
_ROWS_MAX = 4096
_DURATION_MAX_MS = (2**52 - 1) / NS_PER_MS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorEvent:
    """An operation that failed.

    Attributes:
        timestamp: When, in UTC.
        operation: Its name.
        category: What went wrong.
        severity: How bad it is.
        message: Our own message, or the class of a foreign exception: its text may
            quote a connection string.
    """

    timestamp: datetime
    operation: str
    category: ErrorCategory
    severity: Severity
    message: str


class PerformanceMonitor:
    """Counts operations by name, and watches a pool.

    Percentiles are of every operation, in a histogram that is right to 0.4 %: once
    since the start, once over a window. Recording costs about a microsecond and
    never waits for a reader. All methods may be called from any thread.

    Args:
        pool: The pool to watch; None where only operations are recorded.
        window_s: Length of the window that alerts look at, in seconds.
        thresholds: From where on there is an alert.
        clock: Times operations, and moves the window.
    """

    def __init__(
        self,
        pool: WatchedPool | None = None,
        *,
        window_s: float = WINDOW_S,
        thresholds: AlertThresholds | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not window_s > 0:
            msg = f"window_s must be > 0, got {window_s}"
            raise ConfigError(msg)
        self.clock = clock
        self.window_s = window_s
        self._thresholds = thresholds or AlertThresholds()
        self._slot_ns = max(1, int(window_s * NS_PER_S / SLOTS_PER_WINDOW))
        self._lock = Lock()
        self._rows: deque[_Row] = deque()
        self._operations: dict[str, OperationTimes] = {}
        self._error_events: deque[ErrorEvent] = deque(maxlen=ERROR_EVENTS_MAX)
        self._started_ns = clock.monotonic_ns()
        self._watch = (
            PoolWatch(pool, window_s=window_s, clock=clock)
            if pool is not None
            else None
        )

    def record_operation(
        self,
        operation: str,
        duration_ms: float,
        success: bool = True,  # noqa: FBT001, FBT002 - as callers know it
        error_category: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Count one operation that has ended.

        Args:
            operation: Its name: of the kind of work, never of one piece of it.
            duration_ms: How long it took, in milliseconds.
            success: Whether it succeeded.
            error_category: Why it failed.
            metadata: What to remember of it if it becomes the slowest of its name;
                no secrets, for it is shown.

        Raises:
            ValueError: If *duration_ms* is negative, no number, or over 52 days.
        """
        if not 0 <= duration_ms <= _DURATION_MAX_MS:
            msg = f"duration_ms must be >= 0 and finite, got {duration_ms}"
            raise ValueError(msg)
        category = None if success else error_category or ErrorCategory.UNKNOWN
        self._record(operation, round(duration_ms * NS_PER_MS), category, metadata)

    def record_error(self, operation: str, error: BaseException) -> ErrorCategory:
        """Remember why an operation failed, and return what went wrong.

        A timed operation does this by itself.
        """
        found = classify(error)
        kind, sqlstate = type(error).__name__, getattr(error, "sqlstate", None)
        foreign = f"{kind} (SQLSTATE {sqlstate})" if sqlstate else kind
        self._error_events.append(
            ErrorEvent(
                timestamp=self.clock.now(),
                operation=operation,
                category=found.category,
                severity=found.severity,
                message=str(error) if isinstance(error, HarnessError) else foreign,
            )
        )
        return found.category

    @property
    def error_events(self) -> tuple[ErrorEvent, ...]:
        """The last thousand, oldest first."""
        return tuple(self._error_events)

    def time_operation(self, operation: str) -> PerformanceTimer:
        """Return a `with` block that is counted when it ends, also by an error."""
        return PerformanceTimer(operation, self)

    def operation_stats(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each operation, under the keys of a summary."""
        with self._lock:
            self._fold()
            slot = self._slot_number()
            return {
                name: _operation_keys(name, times, slot)
                for name, times in sorted(self._operations.items())
            }

    def pool_view(self) -> PoolView | None:
        """Return what is known of the pool, and keep what its window needs."""
        return self._watch.collect() if self._watch else None

    def alerts(self) -> tuple[Alert, ...]:
        """Return what deserves attention now."""
        return alerts_of(self._recent(), self.pool_view(), self._thresholds)

    def summary(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        operations = self.operation_stats()
        windows = self._recent()
        pool = self.pool_view()
        recent = merged(windows.values())
        requests_count = sum(op["total_requests"] for op in operations.values())
        errors_count = sum(op["failed_requests"] for op in operations.values())
        succeeded = requests_count - errors_count
        uptime_ns = self.clock.monotonic_ns() - self._started_ns
        return {
            "uptime_seconds": uptime_ns / NS_PER_S,
            "total_requests": requests_count,
            "total_errors": errors_count,
            "overall_success_rate": (
                100 * succeeded / requests_count if requests_count else None
            ),
            "recent_5min": {
                "window_seconds": self.window_s,
                "requests": recent.count,
                "success_rate": recent.success_pct,
                "average_duration_ms": recent.average_ms,
                "p50_duration_ms": recent.quantile_ms(0.5),
                "p95_duration_ms": recent.quantile_ms(0.95),
                "p99_duration_ms": recent.quantile_ms(0.99),
            },
            "operation_stats": operations,
            "connection_pool": pool.as_connection_pool() if pool else None,
            "performance_alerts": [
                _alert_keys(alert)
                for alert in alerts_of(windows, pool, self._thresholds)
            ],
        }

    def export_metrics(self, form: str = "json") -> str:
        """Return the summary as text.

        Raises:
            ConfigError: There is no such form.
        """
        if form == "json":
            return json.dumps(self.summary(), indent=2, allow_nan=False)
        if form == "prometheus":
            from harness.lakebase.monitoring.exposition import prometheus_text

            return prometheus_text(self)
        msg = f"form must be json or prometheus, got {form!r}"
        raise ConfigError(msg)

    def wholes(self) -> dict[str, Times]:
        """Return each operation's times since the start."""
        with self._lock:
            self._fold()
            return {name: times.whole() for name, times in self._operations.items()}

    def errors(self) -> Counter[str]:
        """Return failed operations by category."""
        with self._lock:
            self._fold()
            parts = [times.errors for times in self._operations.values()]
            return sum(parts, Counter())

    def reset_metrics(self) -> None:
        """Forget everything, and begin to count from here."""
        with self._lock:
            self._rows.clear()
            self._operations.clear()
            self._error_events.clear()
            self._started_ns = self.clock.monotonic_ns()
            if self._watch:
                self._watch.reset()

    def log_performance_summary(self) -> None:
        """Log one line of the whole, and one for each alert."""
        summary = self.summary()
        recent = summary["recent_5min"]
        logger.info(
            "%d operations since the start, %d failed; %d in the last %g s",
            *(summary["total_requests"], summary["total_errors"]),
            *(recent["requests"], self.window_s),
        )
        for alert in summary["performance_alerts"]:
            logger.warning(
                "%s: %s",
                alert["type"],
                alert["message"],
                extra={"operation": alert.get("operation"), "alert": alert["type"]},
            )

    def _record(
        self,
        operation: str,
        duration_ns: int,
        category: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        rows, now_ns = self._rows, self.clock.monotonic_ns()
        rows.append((operation, now_ns, duration_ns, category, metadata))
        # Nobody waits here: whoever reads or folds at the moment takes these too.
        if len(rows) >= _ROWS_MAX and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        """Count the rows that have come in; the caller holds the lock."""
        grouped: dict[tuple[str, int], tuple[list[int], list[str]]] = {}
        for _ in range(len(self._rows)):
            operation, at_ns, duration_ns, category, about = self._rows.popleft()
            key = self._name(operation), at_ns // self._slot_ns
            self._operations[key[0]].remember_slowest(duration_ns, about)
            durations, failures = grouped.setdefault(key, ([], []))
            durations.append(duration_ns)
            if category is not None:
                failures.append(category)
        for (name, slot), (durations, failures) in sorted(grouped.items()):
            self._operations[name].add(
                np.array(durations, dtype=np.int64), slot_number=slot, failures=failures
            )

    def _name(self, operation: str) -> str:
        known = self._operations
        if operation not in known:
            if len(known) >= OPERATIONS_MAX:
                if OTHER not in known:
                    logger.warning(
                        "more than %d names of operations (%.100r is one): from here "
                        "on new ones are counted together",
                        OPERATIONS_MAX,
                        operation,
                    )
                operation = OTHER
            known.setdefault(operation, OperationTimes())
        return operation

    def _slot_number(self) -> int:
        return self.clock.monotonic_ns() // self._slot_ns

    def _recent(self) -> dict[str, Times]:
        with self._lock:
            self._fold()
            slot = self._slot_number()
            return {name: t.window(slot) for name, t in self._operations.items()}


def _operation_keys(name: str, times: OperationTimes, slot: int) -> dict[str, Any]:
    whole, recent = times.whole(), times.window(slot)
    return {
        "operation": name,
        "total_requests": whole.count,
        "successful_requests": whole.count - whole.failed_count,
        "failed_requests": whole.failed_count,
        "success_rate": whole.success_pct,
        "average_duration_ms": whole.average_ms,
        "min_duration_ms": whole.histogram.value_min / NS_PER_MS,
        "max_duration_ms": whole.histogram.value_max / NS_PER_MS,
        "p50_duration_ms": whole.quantile_ms(0.5),
        "p95_duration_ms": whole.quantile_ms(0.95),
        "p99_duration_ms": whole.quantile_ms(0.99),
        "errors_by_category": dict(times.errors),
        "slowest": None if times.slowest is None else dict(times.slowest),
        "recent": {
            "requests": recent.count,
            "success_rate": recent.success_pct,
            "average_duration_ms": recent.average_ms,
            "p50_duration_ms": recent.quantile_ms(0.5),
            "p95_duration_ms": recent.quantile_ms(0.95),
            "p99_duration_ms": recent.quantile_ms(0.99),
        },
    }


def _alert_keys(alert: Alert) -> dict[str, Any]:
    return {
        "type": alert.type,
        "severity": alert.severity.value,
        "operation": alert.subject,
        "value": alert.value,
        "threshold": alert.threshold,
        "message": alert.message,
    }
