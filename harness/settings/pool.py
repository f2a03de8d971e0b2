"""The connection pool under test, and the presets that size it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from harness.settings.field import Flag, Group, Seconds, Setting, Size

PresetName = Literal["light", "medium", "heavy", "stress"]

# pool_size / max_overflow and the thread counts that belong to them. A preset
# is a layer: it sets what nothing above it has set.
PRESETS = MappingProxyType(
    {
        "light": (5, 10, (10, 20, 40)),
        "medium": (20, 30, (20, 40, 80, 100)),
        "heavy": (50, 100, (50, 100, 200, 300)),
        "stress": (100, 200, (100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)),
    }
)


class PoolSettings(Group):
    """Size and timeouts of the pool under test."""

    engine: Annotated[
        Literal["psycopg", "queue"],
        Setting(
            "LAKEGAUGE_POOL",
            "Pool behind the fixtures: psycopg_pool, or SQLAlchemy's QueuePool.",
            option="--pool",
        ),
    ] = "psycopg"
    pool_size: Annotated[Size, Setting("DB_POOL_SIZE", "Connections kept open.")] = 20
    max_overflow: Annotated[
        Size, Setting("DB_MAX_OVERFLOW", "Connections opened beyond the pool size.")
    ] = 30
    pool_timeout: Annotated[
        Seconds,
        Setting("DB_POOL_TIMEOUT", "Longest wait for a connection, in seconds."),
    ] = 30.0
    command_timeout: Annotated[
        Seconds, Setting("DB_COMMAND_TIMEOUT", "Longest statement, in seconds.")
    ] = 10.0
    pool_recycle_interval: Annotated[
        Seconds,
        Setting(
            "DB_POOL_RECYCLE_INTERVAL",
            "Age at which a connection is replaced, in seconds.",
        ),
    ] = 3000.0
    health_check_interval: Annotated[
        Seconds,
        Setting(
            "DB_HEALTH_CHECK_INTERVAL",
            "Time between health checks, in seconds.",
            aliases=("HEALTH_CHECK_INTERVAL",),
        ),
    ] = 300.0
    enable_background_refresh: Annotated[
        Flag,
        Setting(
            "DB_ENABLE_BACKGROUND_REFRESH",
            "Refresh the credential in the background.",
        ),
    ] = True
    use_production_pool: Annotated[
        Flag,
        Setting(
            "DB_USE_PRODUCTION_POOL",
            "Choose the sized pool; LAKEGAUGE_POOL chooses now.",
            used=False,
        ),
    ] = True
