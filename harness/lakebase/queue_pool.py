"""SQLAlchemy's QueuePool behind the `Pool` protocol."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy.event
import sqlalchemy.exc
import sqlalchemy.pool

from harness.clock import SYSTEM_CLOCK
from harness.postgres.checkout import LedgerPool, arguments_for, prewarm_error
from harness.postgres.connect import connect
from harness.postgres.pool import PoolStats

if TYPE_CHECKING:
    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import Server

PREWARM_WORKERS_MAX = 8
IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR = range(4)  # libpq's PQtransactionStatus

logger = logging.getLogger(__name__)


class QueuePool(LedgerPool):
    """SQLAlchemy's raw QueuePool, without engine or ORM, warm when constructed.

    `size_min` connections are kept; those above it are overflow, which
    SQLAlchemy closes as soon as they come back.

    SQLAlchemy's reset on return is off, because it would cost a round trip even
    though connections are in autocommit mode; a transaction a caller left open
    shows in the connection's own state, costs nothing to see, and is rolled
    back before the next caller can get it.

    Args:
        server: Where to connect.
        config: Sizes and timeouts.
        name: Name of the pool, for messages.

    Raises:
        TargetError: The server refused a connection, with its reason.
        CredentialError: No password could be had.
    """

    def __init__(
        self, server: Server, config: PoolConfig, *, name: str = "queue"
    ) -> None:
        super().__init__(name=name, config=config)
        self._count_lock = threading.Lock()
        self._open_count = 0
        # SQLAlchemy reads pool_size=0 as "no limit".
        kept = max(1, config.size_min)
        self._pool = sqlalchemy.pool.QueuePool(
            # psycopg's connection lacks nothing but SQLAlchemy's own protocol class.
            cast("Any", lambda: connect(arguments_for(server, config))),
            pool_size=kept,
            max_overflow=config.size_max - kept,
            timeout=config.checkout_timeout_s,
            recycle=config.lifetime_max_s,
            reset_on_return=None,
        )
        sqlalchemy.event.listen(self._pool, "connect", self._count_opened)
        sqlalchemy.event.listen(self._pool, "close", self._count_closed)
        self._prewarm()

    def stats(self) -> PoolStats:
        """Return the live state."""
        in_use = self.in_use
        size = self._open_count
        return PoolStats(
            size=size,
            size_max=self.config.size_max,
            in_use=in_use,
            idle=max(0, size - in_use),
            waiting=self.waiting,
        )

    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""
        self._closed = True
        self._pool.dispose()

    def _borrow(self) -> tuple[Any, Any]:
        if self._closed:
            raise self._closed_error()
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        try:
            handle = self._pool.connect()
        except sqlalchemy.exc.TimeoutError:
            raise self._timeout_error(since_ns=started_ns) from None
        return handle, handle.dbapi_connection

    def _give_back(self, handle: Any) -> None:
        connection = handle.dbapi_connection
        status = connection.pgconn.transaction_status
        if status in (IN_TRANSACTION, IN_ERROR):
            logger.warning("rolling back a transaction left open at checkin")
            try:
                connection.rollback()
            except connection.Error:
                logger.warning("the rollback failed; discarding the connection")
            status = connection.pgconn.transaction_status
        if status != IDLE or self._closed:
            # Closes it; the slot goes back and reconnects at its next checkout.
            handle.invalidate()
        else:
            handle.close()
        if self._closed:
            self._pool.dispose()  # it was closed while this one was out

    def _prewarm(self) -> None:
        """Open `size_min` connections; the first alone, so that a refusal is one."""
        handles = [self._pool.connect()]
        with ThreadPoolExecutor(PREWARM_WORKERS_MAX) as threads:
            missing = self.config.size_min - 1
            opening = [threads.submit(self._pool.connect) for _ in range(missing)]
            timeout_s = self.config.prewarm_timeout_s
            wait(opening, timeout=timeout_s, return_when="FIRST_EXCEPTION")
            late = [future for future in opening if future.cancel()]
        # What was not cancelled has ended by now.
        done = [future for future in opening if not future.cancelled()]
        refused = [error for future in done if (error := future.exception())]
        handles += [future.result() for future in done if not future.exception()]
        for handle in handles:
            handle.close()
        if refused or late:
            self.close()
            raise refused[0] if refused else prewarm_error(self, opened=len(handles))

    def _count_opened(self, *_event: object) -> None:
        with self._count_lock:
            self._open_count += 1

    def _count_closed(self, *_event: object) -> None:
        with self._count_lock:
            self._open_count -= 1
