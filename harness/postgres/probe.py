"""A connection aside from the load, to ask a server how it is."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import TargetError
from harness.postgres.connect import CONNECT_TIMEOUT_S, connect

if TYPE_CHECKING:
    from harness.postgres.server import Server


class Probe:
    """The one connection that health checks ask through.

    Kept from one examination to the next and opened anew only when it has broken,
    each time with the password that is good then. It is none of the pool's: a pool
    that is used up says nothing of its database.

    Args:
        server: Where to connect.
        connect_timeout_s: Longest wait for a connection, in seconds.
        clock: Times statements.
    """

    def __init__(
        self,
        server: Server,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._server = server
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._is_closed = False
        self.opened_count = 0

    def ask(self, query: LiteralString) -> tuple[tuple[Any, ...], float]:
        """Return one row, and how long it took in seconds.

        Raises:
            TargetError: The server refuses, or the answer was broken off.
        """
        with self._lock:
            is_kept = self._connection is not None
            try:
                return self._ask(query)
            except TargetError:
                self._drop()
                if not is_kept:
                    raise
            # It may have died of idleness, a failover or a suspend: that is no news
            # of how the database is now.
            return self._ask(query)

    def abandon(self) -> None:
        """End what waits for an answer: its socket is shut, its thread goes on."""
        connection = self._connection
        if connection is None:
            return
        # A copy: closing it must not close the connection's own under its feet.
        with (
            suppress(OSError, ValueError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as copy,
        ):
            copy.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection for good; one that a check hangs in is shut."""
        self._is_closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()
        else:
            self.abandon()

    def _ask(self, query: LiteralString) -> tuple[tuple[Any, ...], float]:
        if self._is_closed:
            msg = "health checks have ended"
            raise TargetError(msg)
        if self._connection is None:
            arguments = self._server.connect_arguments()
            arguments["application_name"] = "lakegauge_health"
            arguments["connect_timeout"] = max(2, round(self._connect_timeout_s))
            self._connection = connect(arguments)
            self.opened_count += 1
        started_ns = self._clock.monotonic_ns()
        try:
            row = self._connection.execute(query, prepare=False).fetchone()
        except psycopg.Error as error:
            sqlstate = error.sqlstate
            said = error.diag.message_primary or type(error).__name__
        else:
            elapsed_s = (self._clock.monotonic_ns() - started_ns) / NS_PER_S
            return tuple(row or ()), elapsed_s
        msg = f"the database broke off a health check: {said}"
        raise TargetError(msg, sqlstate=sqlstate)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
