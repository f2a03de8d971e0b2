"""Parts for an application that keeps its own pool: SQLAlchemy's or psycopg_pool's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.postgres.connect import connect, connect_async
from harness.postgres.opening import arguments_for, arguments_for_async, check_tls
from harness.postgres.pool import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.postgres.server import ConnectArguments, Server


def connect_kwargs(
    server: Server, config: PoolConfig | None = None
) -> Callable[[], ConnectArguments]:
    """Return what psycopg_pool takes as `kwargs`, for threads and for tasks.

    `psycopg_pool.ConnectionPool(kwargs=connect_kwargs(server))`, from version 3.3 on:
    it is called at every physical connect, so each login has a password that is good
    then. Application name, statement timeout and the rules of a pooled host are in it.

    That library retries a refused login in the background, whatever the reason: its
    caller gets `PoolTimeout`, and why stands in the log of `psycopg.pool` only. Open
    one connection first (`connect` of `harness.postgres.connect`) to fail with the
    reason at start, or use our pool, which tells it at every checkout.

    Args:
        server: Where to connect.
        config: Timeouts and application name; its sizes are the library's affair.
    """
    wanted = config or PoolConfig()
    return lambda: arguments_for(server, wanted)


def engine_kwargs(server: Server, config: PoolConfig | None = None) -> dict[str, Any]:
    """Return arguments for `sqlalchemy.create_engine("postgresql+psycopg://", ...)`.

    Sizes, timeouts and recycling are the config's. SQLAlchemy asks the server before
    each checkout whether a connection lives (`pool_pre_ping`): a suspended server
    has ended those that were idle. Replace what you want otherwise.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
    """
    wanted = config or PoolConfig()

    def creator() -> Any:
        arguments = arguments_for(server, wanted)
        connection = connect(arguments, timeout_s=wanted.connect_timeout_s)
        check_tls(connection, wanted)
        # SQLAlchemy begins and ends transactions itself.
        connection.autocommit = False
        return connection

    return {"creator": creator, **_sizes(wanted)}


def async_engine_kwargs(
    server: Server, config: PoolConfig | None = None
) -> dict[str, Any]:
    """Return the same for `create_async_engine("postgresql+psycopg://", ...)`.

    Passwords are looked up without blocking the event loop.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
    """
    wanted = config or PoolConfig()

    async def creator() -> Any:
        arguments = await arguments_for_async(server, wanted)
        connection = await connect_async(arguments, timeout_s=wanted.connect_timeout_s)
        check_tls(connection, wanted)
        await connection.set_autocommit(False)
        return connection

    return {"async_creator": creator, **_sizes(wanted)}


def _sizes(wanted: PoolConfig) -> dict[str, Any]:
    # SQLAlchemy reads pool_size=0 as "no limit".
    kept = max(1, wanted.size_min)
    return {
        "pool_size": kept,
        "max_overflow": wanted.size_max - kept,
        "pool_timeout": wanted.checkout_timeout_s,
        "pool_recycle": wanted.lifetime_max_s,
        "pool_use_lifo": True,
        "pool_pre_ping": True,
    }
