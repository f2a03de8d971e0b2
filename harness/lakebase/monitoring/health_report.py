"""What health checks are, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime


class HealthStatus(StrEnum):
    """How a component is, from well to out of order."""

    HEALTHY = "healthy"
    WARNING = "warning"
    UNHEALTHY = "unhealthy"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for healthy to 3 for critical; their names do not sort that way."""
        return list(HealthStatus).index(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        status: How the component is.
        message: Why, in a sentence without secrets.
        details: Figures behind it.
    """

    status: HealthStatus
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # "warning" will do; a word that is none is an error of the check.
        object.__setattr__(self, "status", HealthStatus(self.status))


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthCheck:
    """One component, and how to look at it.

    Attributes:
        component: Its name.
        find: Looks at it; a function may block, a coroutine function may await.
        timeout_s: After so long it counts as failed, whatever it does.
        failed: Status where it raises or does not end in time.
        abandon: Called after a time-out, to make what still blocks end.
    """

    component: str
    find: Callable[[], Finding | Awaitable[Finding]]
    timeout_s: float
    failed: HealthStatus = HealthStatus.CRITICAL
    abandon: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            msg = f"timeout_s of {self.component} must be > 0, got {self.timeout_s}"
            raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentHealth:
    """What one check said, and when.

    Attributes:
        component: Name of the component.
        status: How it is.
        message: Why.
        response_time_ms: How long the check took, in milliseconds.
        timestamp: When it ended.
        details: Figures behind it.
    """

    component: str
    status: HealthStatus
    message: str
    response_time_ms: float
    timestamp: datetime
    details: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthReport:
    """All components at one time.

    Attributes:
        timestamp: When the last of them had answered.
        components: In the order of the checks.
    """

    timestamp: datetime
    components: tuple[ComponentHealth, ...]

    @property
    def status(self) -> HealthStatus:
        """The worst of its components."""
        found = [component.status for component in self.components]
        return max(found, key=lambda status: status.rank, default=HealthStatus.HEALTHY)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return {
            "status": self.status.value,
            "overall_status": self.status.value,
            "timestamp": self.timestamp.isoformat(),
            "components": {
                health.component: {
                    "component": health.component,
                    "status": health.status.value,
                    "message": health.message,
                    "response_time_ms": health.response_time_ms,
                    "timestamp": health.timestamp.isoformat(),
                    "details": health.details,
                }
                for health in self.components
            },
        }
