"""What a superuser does to a server from outside its sessions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.postgres.connect import connect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.postgres.server import ConnectArguments

# Dirty buffers are written before they are given up, as a checkpoint would.
_EVICT = """
SELECT count(pg_buffercache_evict(bufferid)) FROM pg_buffercache
WHERE reldatabase IN (SELECT oid FROM pg_database WHERE datname = ANY(%s))
"""
_BUFFERED = """
SELECT count(*) FROM pg_buffercache
WHERE reldatabase IN (SELECT oid FROM pg_database WHERE datname = ANY(%s))
"""


class Administrator:
    """One connection of a superuser, opened on first use; threads take turns.

    Args:
        arguments: How the superuser logs in.
    """

    def __init__(self, arguments: ConnectArguments) -> None:
        self._arguments = arguments
        self._lock = threading.Lock()
        self._connection: Any = None

    def create_role(self, name: str, password: str, *, member_of: str | None) -> None:
        """Create a role that may log in and create databases."""
        self._execute("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}", [name], [password])
        if member_of is not None:
            self._execute("GRANT {} TO {}", [member_of, name])

    def create_database(self, name: str, *, owner: str) -> None:
        """Create a database."""
        self._execute("CREATE DATABASE {} OWNER {}", [name, owner])

    def drop(self, *, databases: Iterable[str], roles: Iterable[str]) -> None:
        """Drop databases with their sessions, then roles; missing ones too."""
        for name in databases:
            self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", [name])
        for name in roles:
            self._execute("DROP ROLE IF EXISTS {}", [name])

    def terminate(self, pids: Iterable[int]) -> int:
        """End sessions as an administrator: Postgres itself tells them 57P01."""
        rows = self._fetch(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) "
            "FROM unnest(%s::int[]) AS pid",
            list(pids),
        )
        return int(rows[0][0])

    def empty_buffers(self, databases: Iterable[str]) -> tuple[int, int] | None:
        """Take databases out of the shared buffers.

        The operating system's file cache is not touched.

        Returns:
            Buffers taken out, and buffers still there; None where this server has
            no way to do it (`pg_buffercache` of Postgres 17 or newer).
        """
        names = list(databases)
        try:
            self._execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache", [])
            before = int(self._fetch(_BUFFERED, names)[0][0])
            self._fetch(_EVICT, names)
            after = int(self._fetch(_BUFFERED, names)[0][0])
        except HarnessError:
            return None
        return before - after, after

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _execute(
        self, text: str, names: Sequence[str], literals: Sequence[str] = ()
    ) -> None:
        from psycopg import sql

        parts = [*map(sql.Identifier, names), *map(sql.Literal, literals)]
        self._run(sql.SQL(text).format(*parts), None)

    def _fetch(self, text: str, names: Any) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._run(text, (names,)).fetchall()
        return rows

    def _run(self, query: Any, values: Any) -> Any:
        import psycopg

        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._arguments)
            try:
                return self._connection.execute(query, values)
            except psycopg.Error as error:
                said = error.diag.message_primary
                text = f"the server refuses ({error.sqlstate}): {said}"
        # Outside the except block: the driver's exception quotes the statement,
        # and a password may be in it.
        raise HarnessError(text)
