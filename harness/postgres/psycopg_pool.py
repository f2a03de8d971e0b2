"""Pools whose connections are psycopg's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from harness.postgres.async_slot_pool import AsyncSlotPool
from harness.postgres.connect import connect, connect_async
from harness.postgres.liveness import (
    UPTIME,
    is_quiet,
    lost_early,
    note,
    ping,
    ping_async,
)
from harness.postgres.opening import (
    BUDGET,
    arguments_for,
    arguments_for_async,
    check_budget,
    check_tls,
)
from harness.postgres.slot_pool import SlotPool

if TYPE_CHECKING:
    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import Server

OPEN_TRANSACTION = (TransactionStatus.INTRANS, TransactionStatus.INERROR)

logger = logging.getLogger(__name__)
LEFT_OPEN = "rolling back a transaction left open at checkin"
NOT_ROLLED_BACK = "the rollback failed; discarding the connection"
CHECKIN = {"operation": "pool.checkin"}


class PsycopgEngine:
    """Opens connections with psycopg, each with arguments made for it alone.

    Args:
        server: Where to connect.
        config: Timeouts and application name.
    """

    def __init__(self, server: Server, config: PoolConfig) -> None:
        self._server = server
        self._config = config

    def open(self) -> tuple[psycopg.Connection[Any], None]:
        """Return a new connection."""
        arguments = arguments_for(self._server, self._config)
        return connect(arguments, timeout_s=self._config.connect_timeout_s), None

    def close(self, connection: psycopg.Connection[Any], _handle: Any) -> None:
        """Close a connection, dead or alive."""
        connection.close()

    def clean(self, connection: psycopg.Connection[Any]) -> bool:
        """Roll back what was left open; False if the connection is of no more use."""
        try:
            if connection.pgconn.transaction_status in OPEN_TRANSACTION:
                logger.warning(LEFT_OPEN, extra=CHECKIN)
                connection.rollback()
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                if not connection.autocommit:
                    connection.autocommit = True
                return True
        except psycopg.Error:
            logger.warning(NOT_ROLLED_BACK, extra=CHECKIN)
        return False

    def is_alive(
        self, connection: psycopg.Connection[Any], *, timeout_s: float | None
    ) -> bool:
        """Look at what has arrived; with a timeout, ask for an answer too."""
        try:
            if timeout_s is not None:
                return ping(connection.pgconn, timeout_s=timeout_s)
            return is_quiet(connection.pgconn)
        except psycopg.Error:
            return False

    def listen(self, connection: psycopg.Connection[Any], signs: list[str]) -> None:
        """Add the SQLSTATE of whatever the server says unasked to *signs*."""
        connection.add_notice_handler(lambda notice: note(notice, signs))

    def inspect(self, connection: psycopg.Connection[Any]) -> None:
        """Check TLS, and that the server has room for all processes' pools."""
        check_tls(connection, self._config)
        if connection.prepare_threshold is None:
            return  # behind a pooler, whose clients are not the server's
        try:
            row = connection.execute(BUDGET).fetchone()
        except psycopg.Error as error:
            raise lost_early(error) from None
        if row:
            check_budget(
                self._config,
                max_connections=row[0],
                reserved=row[1],
                others=row[2],
                compute=getattr(self._server, "compute", None),
            )

    def uptime_s(self, connection: psycopg.Connection[Any]) -> float:
        """Ask how long the server has been up, in seconds."""
        try:
            row = connection.execute(UPTIME).fetchone()
        except psycopg.Error as error:
            raise lost_early(error) from None
        return float(row[0]) if row else 0.0


class PsycopgPool(SlotPool):
    """A pool of psycopg connections, warm when constructed.

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
        self, server: Server, config: PoolConfig, *, name: str = "psycopg"
    ) -> None:
        super().__init__(PsycopgEngine(server, config), config, name=name)


class AsyncPsycopgEngine:
    """The same for the tasks of an event loop.

    Args:
        server: Where to connect.
        config: Timeouts and application name.
    """

    def __init__(self, server: Server, config: PoolConfig) -> None:
        self._server = server
        self._config = config

    async def open(self) -> tuple[psycopg.AsyncConnection[Any], Any]:
        """Return a new connection; its password is looked up meanwhile."""
        arguments = await arguments_for_async(self._server, self._config)
        timeout_s = self._config.connect_timeout_s
        return await connect_async(arguments, timeout_s=timeout_s), None

    def close(self, connection: psycopg.AsyncConnection[Any], _handle: Any) -> None:
        """Close a connection, dead or alive; never yields to another task."""
        connection.pgconn.finish()

    async def clean(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Roll back what was left open; False if the connection is of no more use."""
        try:
            if connection.pgconn.transaction_status in OPEN_TRANSACTION:
                logger.warning(LEFT_OPEN, extra=CHECKIN)
                await connection.rollback()
            if connection.pgconn.transaction_status == TransactionStatus.IDLE:
                if not connection.autocommit:
                    await connection.set_autocommit(True)
                return True
        except psycopg.Error:
            logger.warning(NOT_ROLLED_BACK, extra=CHECKIN)
        return False

    async def is_alive(
        self, connection: psycopg.AsyncConnection[Any], *, timeout_s: float | None
    ) -> bool:
        """Look at what has arrived; with a timeout, ask for an answer too."""
        try:
            if timeout_s is not None:
                return await ping_async(connection.pgconn, timeout_s=timeout_s)
            return is_quiet(connection.pgconn)
        except psycopg.Error:
            return False

    def listen(
        self, connection: psycopg.AsyncConnection[Any], signs: list[str]
    ) -> None:
        """Add the SQLSTATE of whatever the server says unasked to *signs*."""
        connection.add_notice_handler(lambda notice: note(notice, signs))

    async def inspect(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Check TLS, and that the server has room for all processes' pools."""
        check_tls(connection, self._config)
        if connection.prepare_threshold is None:
            return  # behind a pooler, whose clients are not the server's
        try:
            row = await (await connection.execute(BUDGET)).fetchone()
        except psycopg.Error as error:
            raise lost_early(error) from None
        if row:
            check_budget(
                self._config,
                max_connections=row[0],
                reserved=row[1],
                others=row[2],
                compute=getattr(self._server, "compute", None),
            )

    async def uptime_s(self, connection: psycopg.AsyncConnection[Any]) -> float:
        """Ask how long the server has been up, in seconds."""
        try:
            row = await (await connection.execute(UPTIME)).fetchone()
        except psycopg.Error as error:
            raise lost_early(error) from None
        return float(row[0]) if row else 0.0


class AsyncPsycopgPool(AsyncSlotPool):
    """A pool of asynchronous psycopg connections; open it with `async with`.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "psycopg"
    ) -> None:
        super().__init__(AsyncPsycopgEngine(server, config), config, name=name)
