"""The connection pool under test, and the presets that size it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from harness.settings.field import (
    Count,
    Delay,
    Flag,
    Group,
    Kind,
    Seconds,
    Setting,
    Size,
)

# When Lakebase ends a connection, whatever it does, and one that does nothing.
LIFETIME_LIMIT_S = 3 * 86_400
IDLE_LIMIT_S = 86_400

Lifetime = Annotated[
    Seconds,
    Field(lt=LIFETIME_LIMIT_S),
    Kind(
        f"a number of seconds above 0 and below {LIFETIME_LIMIT_S}: "
        "Lakebase ends a connection after three days"
    ),
]
IdleTime = Annotated[
    Seconds,
    Field(lt=IDLE_LIMIT_S),
    Kind(
        f"a number of seconds above 0 and below {IDLE_LIMIT_S}: "
        "Lakebase ends an idle connection after 24 hours"
    ),
]

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
        Lifetime,
        Setting(
            "DB_POOL_RECYCLE_INTERVAL",
            "Age at which a connection is replaced, in seconds.",
        ),
    ] = 3000.0
    idle_max_s: Annotated[
        IdleTime,
        Setting(
            "DB_IDLE_MAX_S",
            "How long a connection may be idle before it is replaced, in seconds.",
        ),
    ] = 3600.0
    liveness_idle_s: Annotated[
        Delay,
        Setting(
            "DB_LIVENESS_IDLE_S",
            "A connection idle for longer answers a ping before use, in seconds.",
        ),
    ] = 1.0
    leak_after_s: Annotated[
        Delay,
        Setting(
            "DB_LEAK_AFTER_S",
            "A checkout held for longer is logged with its stack, in seconds; "
            "0 is never.",
        ),
    ] = 0.0
    connect_concurrency: Annotated[
        Count,
        Setting(
            "DB_CONNECT_CONCURRENCY", "Connections that are opened at the same time."
        ),
    ] = 32
    processes: Annotated[
        Count,
        Setting(
            "DB_PROCESSES",
            "Processes that open such a pool each, for the connection budget.",
        ),
    ] = 1
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
