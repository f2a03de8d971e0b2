"""Pools whose connections come through SQLAlchemy's own pool events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import sqlalchemy.pool

from harness.postgres.async_slot_pool import AsyncSlotPool
from harness.postgres.psycopg_pool import AsyncPsycopgEngine, PsycopgEngine
from harness.postgres.slot_pool import SlotPool

if TYPE_CHECKING:
    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import Server


class SqlAlchemyEngine(PsycopgEngine):
    """Opens and closes connections through a SQLAlchemy pool that keeps none.

    Whoever listens to SQLAlchemy's pool events (`connect`, `close`, `invalidate`)
    sees every physical connection.

    Args:
        server: Where to connect.
        config: Timeouts and application name.
    """

    def __init__(self, server: Server, config: PoolConfig) -> None:
        super().__init__(server, config)
        # The reset would be a round trip; what a caller left open is seen without.
        self.pool = sqlalchemy.pool.NullPool(
            # psycopg's connection lacks nothing but SQLAlchemy's own protocol class.
            cast("Any", lambda: PsycopgEngine.open(self)[0]),
            reset_on_return=None,
        )

    def open(self) -> tuple[Any, Any]:
        """Return a new connection, and SQLAlchemy's hold on it."""
        fairy = self.pool.connect()
        return fairy.dbapi_connection, fairy

    def close(self, connection: Any, handle: Any) -> None:
        """Close a connection, dead or alive."""
        handle.close()
        connection.close()


class QueuePool(SlotPool):
    """A pool of SQLAlchemy's connections, warm when constructed.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.

    Raises:
        TargetError: The server refused a connection, with its reason.
        ConfigError: The server cannot serve a pool of this size.
        CredentialError: No password could be had.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "queue"
    ) -> None:
        engine = SqlAlchemyEngine(server, config)
        super().__init__(engine, config, name=name)
        self.events = engine.pool


class AsyncSqlAlchemyEngine(AsyncPsycopgEngine):
    """The same for tasks: a connection is opened first, then shown to SQLAlchemy.

    SQLAlchemy would open it in a greenlet; so its events come without one.

    Args:
        server: Where to connect.
        config: Timeouts and application name.
    """

    def __init__(self, server: Server, config: PoolConfig) -> None:
        super().__init__(server, config)
        self._opened: list[_Adapted] = []
        self.pool = sqlalchemy.pool.NullPool(
            cast("Any", self._opened.pop), reset_on_return=None
        )

    async def open(self) -> tuple[Any, Any]:
        """Return a new connection, and SQLAlchemy's hold on it."""
        connection, _ = await super().open()
        self._opened.append(_Adapted(connection))
        return connection, self.pool.connect()

    def close(self, connection: Any, handle: Any) -> None:
        """Close a connection, dead or alive."""
        handle.close()
        super().close(connection, None)


class _Adapted:
    """An asynchronous connection as SQLAlchemy's pool wants to close it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def close(self) -> None:
        self.connection.pgconn.finish()


class AsyncQueuePool(AsyncSlotPool):
    """A pool of SQLAlchemy's connections for tasks; open it with `async with`.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "queue"
    ) -> None:
        engine = AsyncSqlAlchemyEngine(server, config)
        super().__init__(engine, config, name=name)
        self.events = engine.pool
