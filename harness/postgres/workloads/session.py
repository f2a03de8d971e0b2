"""How an operation talks to its connection: a cursor used again, or libpq itself."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    import psycopg

PLACEHOLDER = re.compile("%[s%]")
INTEGER_OIDS = frozenset((20, 21, 23))  # bigint, smallint, integer
_statement_numbers = itertools.count()


class Session(Protocol):
    """One connection as a workload uses it; what `execute` returns is used at once."""

    connection: psycopg.Connection[Any]

    def execute(self, query: str, params: Sequence[object] = ...) -> Any:
        """Run one statement; rows and count are those of what it returns."""
        ...

    def transaction(self, **options: Any) -> AbstractContextManager[Any]:
        """Return a transaction as a `with` block."""
        ...


class CursorSession:
    """One cursor used again and again, statements prepared, results in binary.

    What an application does that cares for speed. A cursor of its own for every
    statement costs 5 to 8 us more.

    Args:
        connection: In autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.cursor = connection.cursor(binary=True)
        # None where a pooler may give the next transaction another backend.
        prepare = connection.prepare_threshold is not None
        # Bound once: a method of ours would cost every statement another call.
        self.execute: Callable[..., Any] = partial(self.cursor.execute, prepare=prepare)

    def transaction(self, **options: Any) -> AbstractContextManager[Any]:
        """Return a transaction as a `with` block."""
        return self.connection.transaction(**options)


@dataclass(slots=True)
class _Statement:
    """A statement that was prepared.

    Attributes:
        name: At the server.
        integers: Which columns are; None before its first row.
    """

    name: bytes
    integers: tuple[bool, ...] | None = None


class DirectSession:
    """Prepared statements through psycopg's own binding of libpq.

    The floor of what Python can do: no adaptation but of integers and text, no
    cursor. One thread at a time, no pipeline, and no transaction pooler between.

    Args:
        connection: In autocommit mode.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        from psycopg import pq

        self.connection = connection
        self._pgconn = connection.pgconn
        self._statements: dict[str, _Statement] = {}
        self._statement: _Statement
        self._good = (int(pq.ExecStatus.TUPLES_OK), int(pq.ExecStatus.COMMAND_OK))
        self._result: Any = None
        # Bound once: a method of ours would cost every statement another call.
        self._exchange: Callable[[bytes, Sequence[bytes]], Any]
        self._exchange = self._pgconn.exec_prepared

    def transaction(self, **options: Any) -> AbstractContextManager[Any]:
        """Return a transaction as a `with` block."""
        return self.connection.transaction(**options)

    def execute(self, query: str, params: Sequence[object] = ()) -> Self:
        """Run one statement with its `%s` filled in by the server."""
        statement = self._statements.get(query) or self._prepare(query)
        # Without a function of ours for each value.
        values = list(map(str.encode, map(str, params)))
        result = self._exchange(statement.name, values)
        if result.status not in self._good:
            self._fail(result)
        self._result, self._statement = result, statement
        return self

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed or returned."""
        return self._result.command_tuples or 0

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the first row of the last statement."""
        return self._row(0) if self._result.ntuples else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows of the last statement."""
        return [self._row(index) for index in range(self._result.ntuples)]

    def _row(self, index: int) -> tuple[Any, ...]:
        result = self._result
        kinds = self._statement.integers
        if kinds is None:
            kinds = self._statement.integers = tuple(
                result.ftype(column) in INTEGER_OIDS for column in range(result.nfields)
            )
        # A plain loop: this is on the way of every row that a load reads.
        row: list[Any] = []
        for column, is_integer in enumerate(kinds):
            value = result.get_value(index, column)
            if value is not None:
                value = int(value) if is_integer else value.decode()
            row.append(value)
        return tuple(row)

    def _prepare(self, query: str) -> _Statement:
        numbers = itertools.count(1)
        text = query
        # As psycopg reads it: without a parameter, a % is only a %.
        if PLACEHOLDER.search(query.replace("%%", "")):
            text = PLACEHOLDER.sub(
                lambda found: "%" if found[0] == "%%" else f"${next(numbers)}", query
            )
        # Of all sessions of this process: a connection may have had another one.
        name = f"lakegauge_{next(_statement_numbers)}".encode()
        result = self._pgconn.prepare(name, text.encode())
        if result.status not in self._good:
            self._fail(result)
        statement = self._statements[query] = _Statement(name)
        return statement

    def _fail(self, result: Any) -> None:
        import psycopg

        raise psycopg.errors.error_from_result(result, encoding="utf-8")


def session_of(
    connection: Any, make: Callable[[Any], Session] = CursorSession
) -> Session:
    """Return the session of a pooled connection, made at its first checkout."""
    # Kept on the connection itself: it ends when the pool replaces the connection.
    session: Session | None = getattr(connection, "lakegauge_session", None)
    if session is None or session.__class__ is not make:
        session = connection.lakegauge_session = make(connection)
    return session
