"""A database, its pool and what watches them: started and stopped as one."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, TargetError
from harness.lakebase.monitoring import checks
from harness.lakebase.monitoring.health import HealthMonitor
from harness.lakebase.monitoring.performance import PerformanceMonitor
from harness.lakebase.pools import open_pool, pool_config
from harness.postgres.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from opentelemetry.metrics import Meter

    from harness.lakebase.monitoring.health_report import HealthCheck
    from harness.lakebase.monitoring.telemetry import PoolTelemetry
    from harness.lakebase.workspace import Workspace
    from harness.postgres.pool import Pool
    from harness.postgres.server import Server
    from harness.postgres.slot_pool import SlotPool
    from harness.settings import Settings

JOIN_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class LakebaseService:
    """What an application holds: `with LakebaseService(load_settings()) as lakebase:`.

    It opens the database that the settings name, with credentials that renew
    themselves, a pool over it, and the monitors that the settings ask for. All of it
    is closed by `stop`, also when starting fails half-way.

    Args:
        settings: Everything: target, pool, monitoring.
        server: A database that is open already; it stays open after `stop`.
        pool: A pool that is open already; it stays open after `stop`.
        checks: Health checks of the application's own, besides the five.
        meter: OpenTelemetry meter to publish the pool to; None publishes nothing.
        clock: For the monitors.

    Attributes:
        performance: Counts and times; None if switched off or not started.
        health: The health checks; None if switched off or not started.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        server: Server | None = None,
        pool: Pool | None = None,
        checks: Sequence[HealthCheck] = (),
        meter: Meter | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if pool is not None and server is None:
            msg = "LakebaseService(pool=...) needs server=... too, to look at it"
            raise ConfigError(msg)
        self.settings = settings
        self.performance: PerformanceMonitor | None = None
        self.health: HealthMonitor | None = None
        self._given_server, self._given_pool = server, pool
        self._checks = tuple(checks)
        self._meter = meter
        self._clock = clock
        self._server: Server | None = None
        self._pool: Pool | None = None
        self._own_pool: SlotPool | None = None
        self._probe: Probe | None = None
        self._telemetry: PoolTelemetry | None = None
        self._stopping = threading.Event()
        self._collector: threading.Thread | None = None
        self._alerting: frozenset[tuple[str, str]] = frozenset()

    @property
    def pool(self) -> Pool:
        """The pool.

        Raises:
            TargetError: The service is not started.
        """
        if self._pool is None:
            msg = "the Lakebase service is not started: call start() first"
            raise TargetError(msg)
        return self._pool

    @property
    def server(self) -> Server:
        """The database.

        Raises:
            TargetError: The service is not started.
        """
        if self._server is None:
            msg = "the Lakebase service is not started: call start() first"
            raise TargetError(msg)
        return self._server

    def start(self) -> Self:
        """Open everything; a second call changes nothing.

        Raises:
            ConfigError: A setting is missing or impossible.
            CredentialError: The workspace refuses.
            TargetError: The database refuses.
        """
        if self._pool is not None:
            return self
        self._stopping.clear()
        try:
            self._server = self._given_server or _open_server(self.settings)
            if self._given_pool is None:
                self._own_pool = open_pool(
                    self.settings.pool.engine, self._server, pool_config(self.settings)
                )
            self._pool = self._given_pool or self._own_pool
            self._watch(self.pool, self.server)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close what was opened, the monitors first; safe to call twice."""
        self._stopping.set()
        collector, self._collector = self._collector, None
        if collector is not None:
            collector.join(JOIN_TIMEOUT_S)
        if self.health is not None:
            self.health.stop()
        if self._probe is not None:
            self._probe.close()
            self._probe = None
        own_pool, self._own_pool = self._own_pool, None
        server, self._server = self._server, None
        self._pool = None
        try:
            if own_pool is not None:
                own_pool.close()
        finally:
            if server is not None and server is not self._given_server:
                server.close()

    def get_performance_metrics(self) -> dict[str, Any] | None:
        """Return the performance summary; None where it is switched off."""
        return self.performance.summary() if self.performance else None

    def get_health_status(self) -> dict[str, Any] | None:
        """Return the last health report without waiting; None if there is none yet."""
        report = self.health.latest if self.health else None
        return report.as_dict() if report else None

    def collect(self) -> None:
        """Take one look at the figures, as the background does at each interval."""
        if self._telemetry is not None:
            self._telemetry.publish()
        if self.performance is None:
            return
        alerts = {
            (alert.type, alert.subject): alert for alert in self.performance.alerts()
        }
        for key, alert in alerts.items():
            if key not in self._alerting:
                logger.warning(
                    "%s: %s",
                    alert.type,
                    alert.message,
                    extra={
                        "operation": alert.subject,
                        "alert": alert.type,
                        "severity": alert.severity.value,
                        "value": alert.value,
                        "threshold": alert.threshold,
                    },
                )
        for kind, subject in self._alerting - alerts.keys():
            logger.info(
                "%s of %s has ended",
                kind,
                subject,
                extra={"operation": subject, "alert": kind},
            )
        self._alerting = frozenset(alerts)

    def _watch(self, pool: Pool, server: Server) -> None:
        monitoring = self.settings.monitoring
        if self._meter is not None:
            from harness.lakebase.monitoring.telemetry import PoolTelemetry

            self._telemetry = PoolTelemetry(pool, meter=self._meter)
        if monitoring.enable_performance_monitoring:
            self.performance = PerformanceMonitor(pool, clock=self._clock)
        if monitoring.enable_health_checks:
            self._probe = Probe(server)
            self.health = HealthMonitor(
                [*self._components(pool, server, self._probe), *self._checks],
                interval_s=self.settings.pool.health_check_interval,
                clock=self._clock,
            )
            self.health.start()
        if self.performance is not None or self._telemetry is not None:
            self._collector = threading.Thread(
                target=self._collect_for_ever, name="lakegauge-metrics", daemon=True
            )
            self._collector.start()

    def _components(
        self, pool: Pool, server: Server, probe: Probe
    ) -> list[HealthCheck]:
        """Return the checks that make sense: a local database has no workspace."""
        found = [
            checks.database_connection(probe),
            checks.database_performance(probe),
            checks.connection_pool(pool),
        ]
        lakebase = self.settings.lakebase
        if server.info.target == "lakebase" and lakebase.password is None:
            workspace = _workspace(self.settings)
            found += [
                checks.databricks_workspace(workspace.user_name),
                checks.database_instance(lambda: _state(workspace, self.settings)),
            ]
        return found

    def _collect_for_ever(self) -> None:
        interval_s = self.settings.monitoring.metrics_collection_interval
        while not self._stopping.wait(interval_s):
            try:
                self.collect()
            except Exception:
                logger.exception("metrics could not be collected")

    def __enter__(self) -> Self:
        """Start everything."""
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.stop()


def _open_server(settings: Settings) -> Server:
    from harness.lakebase.target import start_lakebase
    from harness.postgres.targets import start

    server, warning = start(settings, lakebase=start_lakebase)
    if warning:
        logger.warning("%s", warning)
    return server


def _workspace(settings: Settings) -> Workspace:
    from harness.lakebase.workspace import Workspace

    return Workspace(settings)


def _state(workspace: Workspace, settings: Settings) -> str:
    from harness.lakebase.lookup import database_of

    name, is_instance = database_of(workspace, settings)
    if is_instance:
        return workspace.instance_address(name).state
    return workspace.endpoint_address(name).state
