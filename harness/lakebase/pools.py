"""Which pool the settings ask for, and how large."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.postgres.pool import PoolConfig

if TYPE_CHECKING:
    from harness.postgres.server import Server
    from harness.postgres.slot_pool import SlotPool
    from harness.settings import Settings

KINDS = ("psycopg", "queue")


def open_pool(kind: str, server: Server, config: PoolConfig) -> SlotPool:
    """Open the pool of one library; only this library is imported.

    A server that has shown TLS is held to it, whatever host may do without.

    Raises:
        ConfigError: There is no such kind.
    """
    if server.info.tls is not None:
        config = replace(config, plaintext_hosts=())
    if kind == "psycopg":
        from harness.postgres.psycopg_pool import PsycopgPool

        return PsycopgPool(server, config)
    if kind == "queue":
        from harness.lakebase.queue_pool import QueuePool

        return QueuePool(server, config)
    msg = f"pool kind must be one of {', '.join(KINDS)}, got {kind!r}"
    raise ConfigError(msg)


def pool_config(settings: Settings, **overrides: Any) -> PoolConfig:
    """Return the sizes and timeouts that the settings ask for."""
    pool = settings.pool
    size_max = max(1, pool.pool_size + pool.max_overflow)
    # Whoever gives one bound gets the other to fit.
    size_min = min(pool.pool_size, overrides.get("size_max", size_max))
    size_max = max(size_max, overrides.get("size_min", 0))
    return PoolConfig(
        **{
            "size_min": size_min,
            "size_max": size_max,
            "checkout_timeout_s": pool.pool_timeout,
            "statement_timeout_s": pool.command_timeout,
            "lifetime_max_s": pool.pool_recycle_interval,
            "idle_max_s": pool.idle_max_s,
            "liveness_idle_s": pool.liveness_idle_s,
            "leak_after_s": pool.leak_after_s,
            "connect_concurrency": pool.connect_concurrency,
            "processes": pool.processes,
            "prewarm_timeout_s": settings.benchmark.max_pool_init_time,
            "application_name": settings.security.application_name,
            "tls_required": settings.security.ssl_require,
            "plaintext_hosts": settings.security.plaintext_hosts,
            **overrides,
        }
    )
