"""Health checks that end in time, in the background, with a history."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import Counter, deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, HarnessError
from harness.lakebase.classify import classify
from harness.lakebase.monitoring.health_report import (
    ComponentHealth,
    Finding,
    HealthCheck,
    HealthReport,
    HealthStatus,
)
from harness.postgres.classify import Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

INTERVAL_S = 300.0
HISTORY_MAX = 100
TREND_REPORTS_MIN = 4
JOIN_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class HealthMonitor:
    """Runs checks side by side, each within its time, and remembers what they said.

    Reading never waits: `latest` is what the background thread found last. Every
    check has a thread of its own, because a thread that hangs in a socket or a
    driver cannot be stopped; it is left behind, reported until it ends, and never
    joined by a second one of its component.

    Args:
        checks: What to look at.
        interval_s: Time between two examinations in the background, in seconds.
        clock: Dates reports. Time-outs are of real time, as threads wait.
    """

    def __init__(
        self,
        checks: Sequence[HealthCheck] = (),
        *,
        interval_s: float = INTERVAL_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not interval_s > 0:
            msg = f"interval_s must be > 0, got {interval_s}"
            raise ConfigError(msg)
        self.interval_s = interval_s
        self._clock = clock
        self._checks: list[HealthCheck] = []
        self._hanging: dict[str, tuple[Future[Finding], datetime]] = {}
        self._history: deque[HealthReport] = deque(maxlen=HISTORY_MAX)
        self._lock = threading.Lock()
        self._flight: Future[HealthReport] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for check in checks:
            self.add_check(check)

    def add_check(self, check: HealthCheck) -> None:
        """Look at one more component from the next examination on.

        Raises:
            ConfigError: There is a check of that name.
        """
        with self._lock:
            if any(check.component == known.component for known in self._checks):
                msg = f"there is a health check of {check.component!r} already"
                raise ConfigError(msg)
            self._checks.append(check)

    def start(self) -> None:
        """Examine now and then every `interval_s`, in the background."""
        with self._lock:
            if self._thread is not None:
                return
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._run, name="lakegauge-health", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the background thread; a check that hangs is left to itself."""
        self._stop.set()
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(JOIN_TIMEOUT_S)

    @property
    def latest(self) -> HealthReport | None:
        """The last report; None while there is none, which is not "healthy"."""
        return self._history[-1] if self._history else None

    @property
    def history(self) -> tuple[HealthReport, ...]:
        """The last hundred reports, oldest first."""
        return tuple(self._history)

    def check_now(self) -> HealthReport:
        """Examine every component and wait for it, within the longest time-out.

        Callers at the same time share one examination.
        """
        return self._examination().result()

    async def check_now_async(self) -> HealthReport:
        """Do the same without blocking the event loop."""
        return await asyncio.shield(asyncio.wrap_future(self._examination()))

    def get_health_trends(self, hours: float = 24.0) -> dict[str, Any]:
        """Return how it has been over the last hours.

        Available means healthy or with a warning. The trend compares the mean rank
        of the newer half of the reports with that of the older half.
        """
        since = self._clock.now() - timedelta(hours=hours)
        reports = [report for report in self.history if report.timestamp >= since]
        counts = Counter(report.status.value for report in reports)
        up = counts[HealthStatus.HEALTHY] + counts[HealthStatus.WARNING]
        return {
            "period_hours": hours,
            "total_checks": len(reports),
            "availability_percent": 100 * up / len(reports) if reports else None,
            "status_distribution": {s.value: counts[s] for s in HealthStatus},
            "latest_status": reports[-1].status.value if reports else None,
            "trend": _trend([report.status.rank for report in reports]),
        }

    def _run(self) -> None:
        while True:
            try:
                self.check_now()
            except Exception:
                logger.exception(
                    "health could not be examined", extra={"operation": "health"}
                )
            if self._stop.wait(self.interval_s):
                return

    def _examination(self) -> Future[HealthReport]:
        """Return the examination that is going on, or begin one."""
        with self._lock:
            if self._flight is not None:
                return self._flight
            flight = self._flight = Future()
            # Nobody who stops waiting takes it from the others.
            flight.set_running_or_notify_cancel()
        name = "lakegauge-health-examination"
        threading.Thread(
            target=self._examine, args=(flight,), name=name, daemon=True
        ).start()
        return flight

    def _examine(self, flight: Future[HealthReport]) -> None:
        try:
            with self._lock:
                checks = tuple(self._checks)
            started_ns = SYSTEM_CLOCK.monotonic_ns()
            begun = [(check, self._begin(check)) for check in checks]
            components = tuple(
                self._outcome(check, future, started_ns) for check, future in begun
            )
            report = HealthReport(timestamp=self._clock.now(), components=components)
            before = self.latest
            with self._lock:
                self._history.append(report)
                self._flight = None
            _log_changes(before, report)
            flight.set_result(report)
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            with self._lock:
                self._flight = None
            flight.set_exception(error)

    def _begin(self, check: HealthCheck) -> Future[Finding] | datetime:
        """Start a check; return since when it hangs if the last one still does."""
        old = self._hanging.get(check.component)
        if old is not None and not old[0].done():
            return old[1]
        future: Future[Finding] = Future()
        self._hanging[check.component] = future, self._clock.now()

        def look() -> None:
            try:
                found: object = check.find()
                if inspect.isawaitable(found):
                    found = asyncio.run(_awaited(found))
                if not isinstance(found, Finding):
                    msg = f"a check must return a Finding, not {found!r:.100}"
                    raise TypeError(msg)  # noqa: TRY301 - reported like the others
            except BaseException as error:  # noqa: BLE001 - reported as the finding
                future.set_exception(error)
            else:
                future.set_result(found)

        name = f"lakegauge-health-{check.component}"
        threading.Thread(target=look, name=name, daemon=True).start()
        return future

    def _outcome(
        self, check: HealthCheck, future: Future[Finding] | datetime, started_ns: int
    ) -> ComponentHealth:
        if isinstance(future, datetime):
            finding = Finding(
                status=check.failed,
                message=f"has not answered since {future:%Y-%m-%d %H:%M:%S} UTC",
                details={"hanging": True},
            )
        else:
            elapsed_s = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_S
            finding = self._await_finding(check, future, check.timeout_s - elapsed_s)
        return ComponentHealth(
            component=check.component,
            status=finding.status,
            message=finding.message,
            response_time_ms=(SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_MS,
            timestamp=self._clock.now(),
            details=finding.details,
        )

    def _await_finding(
        self, check: HealthCheck, future: Future[Finding], left_s: float
    ) -> Finding:
        try:
            finding = future.result(max(0.0, left_s))
        except FutureTimeoutError as error:
            if future.done():
                return _failed(check, error)  # The check itself ran into one.
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding
            return _failed(check, error)
        else:
            return finding
        if check.abandon is not None:
            try:
                check.abandon()
            except Exception:
                logger.exception(
                    "could not end the check of %s",
                    check.component,
                    extra={"operation": f"health.{check.component}"},
                )
        return Finding(
            status=check.failed,
            message=f"did not answer within {check.timeout_s:g} s",
            details={"hanging": True},
        )


async def _awaited(found: Awaitable[Finding]) -> Finding:
    return await found


def _failed(check: HealthCheck, error: BaseException) -> Finding:
    """Say why a check failed; only our own messages are known to hold no secret."""
    sqlstate = getattr(error, "sqlstate", None)
    kind = type(error).__name__
    if isinstance(error, HarnessError):
        message = str(error)
    else:
        message = f"{kind} (SQLSTATE {sqlstate})" if sqlstate else kind
    return Finding(
        status=check.failed,
        message=message,
        details={
            "error": kind,
            "sqlstate": sqlstate,
            "category": str(classify(error, phase=Phase.CONNECT).category),
        },
    )


def _trend(ranks: list[int]) -> str:
    if len(ranks) < TREND_REPORTS_MIN:
        return "insufficient_data"
    middle = len(ranks) // 2
    older, newer = ranks[:middle], ranks[middle:]
    change = sum(newer) / len(newer) - sum(older) / len(older)
    if abs(change) < 1 / len(ranks):
        return "stable"
    return "degrading" if change > 0 else "improving"


def _log_changes(before: HealthReport | None, report: HealthReport) -> None:
    old = {h.component: h.status for h in before.components} if before else {}
    for health in report.components:
        was = old.get(health.component, HealthStatus.HEALTHY)
        if health.status is was:
            continue
        is_worse = health.status.rank > was.rank
        level = logging.WARNING if is_worse else logging.INFO
        logger.log(
            level,
            "%s is %s: %s",
            *(health.component, health.status.value, health.message),
            extra={
                "operation": f"health.{health.component}",
                "duration_ms": round(health.response_time_ms, 3),
                "category": health.details.get("category"),
                "status": health.status.value,
            },
        )
