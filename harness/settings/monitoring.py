"""What is logged and watched while benchmarks run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from harness.settings.field import Flag, Group, Seconds, Secret, Setting


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class MonitoringSettings(Group):
    """Log level and monitoring switches."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(_upper),
        Setting(
            "LAKEGAUGE_LOG_LEVEL",
            "Lowest level that is logged.",
            fallbacks=("LOG_LEVEL",),
        ),
    ] = "INFO"
    log_format: Annotated[
        Literal["console", "json"],
        Setting(
            "LAKEGAUGE_LOG_FORMAT",
            "Log lines for people, or JSON lines for machines.",
        ),
    ] = "console"
    enable_performance_monitoring: Annotated[
        Flag,
        Setting("ENABLE_PERFORMANCE_MONITORING", "Count and time operations."),
    ] = True
    enable_health_checks: Annotated[
        Flag, Setting("ENABLE_HEALTH_CHECKS", "Run the health checks.")
    ] = True
    metrics_collection_interval: Annotated[
        Seconds,
        Setting(
            "METRICS_COLLECTION_INTERVAL",
            "Time between two collections, in seconds.",
        ),
    ] = 60.0
    monitor_token: Annotated[
        Secret | None,
        Setting(
            "LAKEGAUGE_MONITOR_TOKEN",
            "What everybody must bring to see the monitor; needed to serve it to "
            "other machines.",
        ),
    ] = None
