"""One statement of somebody's, run so that it can only read, and not for long."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from harness.clock import NS_PER_MS, SYSTEM_CLOCK
from harness.errors import TargetError
from harness.postgres.connect import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.postgres.server import ConnectArguments

TIMEOUT_S = 5.0
ROWS_MAX = 100
CELL_CHARACTERS_MAX = 1000
STATEMENT_CHARACTERS_MAX = 10_000
_CURSOR = "lakegauge_read"

# Functions that may act on something: a read-only transaction does not stop
# pg_terminate_backend, set_config or pg_read_file. These of them do nothing.
_HARMLESS = frozenset(
    {"random", "clock_timestamp", "timeofday", "pg_sleep", "gen_random_uuid"}
)
_VOLATILE = """
SELECT DISTINCT proname FROM pg_proc
WHERE provolatile = 'v' AND proname = ANY($1::text[]) ORDER BY proname
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryAnswer:
    """What a statement returned.

    Attributes:
        columns: Names of the columns.
        rows: Values as the server prints them, None for NULL.
        truncated: Whether there were more rows than are returned.
        elapsed_ms: From sending the statement until its rows were here.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    truncated: bool
    elapsed_ms: float


def query_read_only(
    arguments: ConnectArguments,
    statement: str,
    *,
    timeout_s: float = TIMEOUT_S,
    rows_max: int = ROWS_MAX,
) -> QueryAnswer:
    """Run one SELECT, VALUES, TABLE or WITH on a connection of its own.

    The statement is the text of a cursor, in a read-only transaction that is rolled
    back: the server's own parser refuses a second statement, one that writes and
    one that is no query, and its own plan names the functions that are called. The
    connection is closed afterwards, so nothing it changed in its session stays.

    Args:
        arguments: Where to connect.
        statement: The statement.
        timeout_s: Longest time for it on the server, in seconds.
        rows_max: Most rows that are returned.

    Raises:
        TargetError: The server refuses it, or it calls a function that may act;
            the message has the server's reason, `sqlstate` its code.
    """
    if len(statement) > STATEMENT_CHARACTERS_MAX or "\0" in statement:
        msg = f"a statement has up to {STATEMENT_CHARACTERS_MAX} characters, none NUL"
        raise TargetError(msg, sqlstate="54000")
    arguments["application_name"] = "lakegauge_test_query"
    with connect(arguments, timeout_s=timeout_s) as connection:
        session = _Session(connection)
        session.run("BEGIN TRANSACTION READ ONLY")
        session.run(f"SET LOCAL statement_timeout = {round(timeout_s * 1000)}")
        session.run("SET LOCAL lock_timeout = '1s'")
        plan = session.run(f"EXPLAIN (VERBOSE, FORMAT JSON) {_declared(statement)}")
        _refuse_actions(session, plan)
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        session.run(_declared(statement))
        found = session.run(f"FETCH {rows_max + 1} FROM {_CURSOR}")
        elapsed_ms = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_MS
        rows = [tuple(_shown(value) for value in row) for row in _rows(found)]
        columns = tuple(_text(found.fname(i)) for i in range(found.nfields))
        session.run("ROLLBACK")
    return QueryAnswer(
        columns=columns,
        rows=tuple(rows[:rows_max]),
        truncated=len(rows) > rows_max,
        elapsed_ms=elapsed_ms,
    )


class _Session:
    """Runs statements by the extended protocol, which takes one at a time.

    Without parameters the driver itself would send the text as it is, and the
    server would run all statements in it.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, statement: str, *parameters: str) -> pq.abc.PGresult:
        """Run one statement, and return its result as text."""
        pgconn = self._connection.pgconn
        pgconn.send_query_params(
            statement.encode(), [parameter.encode() for parameter in parameters]
        )
        results: list[pq.abc.PGresult] = self._connection.wait(
            psycopg.generators.execute(pgconn)
        )
        (result,) = results
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return result
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no reason"
        sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
        msg = f"the server refuses the statement: {_text(said)}"
        raise TargetError(msg, sqlstate=_text(sqlstate) if sqlstate else None)


def _declared(statement: str) -> str:
    # A line comment at its end must not swallow anything of ours: nothing follows.
    return f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {statement}"


def _refuse_actions(session: _Session, plan: pq.abc.PGresult) -> None:
    """Refuse a statement whose plan calls a volatile function.

    The plan is the server's reading of it: names are resolved, quotes and case are
    gone, views are opened. Every word before a parenthesis is looked up.
    """
    text = "".join(_text(row[0] or b"") for row in _rows(plan))
    words = sorted(_called(json.loads(text)) - _HARMLESS)
    listed = ",".join(
        '"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words
    )
    found = session.run(_VOLATILE, "{" + listed + "}")
    names = [_text(row[0] or b"") for row in _rows(found)]
    if names:
        msg = f"the statement calls {', '.join(names)}, which may do more than read"
        raise TargetError(msg, sqlstate="42501")


def _called(plan: Any) -> set[str]:
    """Return the last part of every name that stands before a parenthesis."""
    if isinstance(plan, dict):
        # A function in FROM is named by itself.
        own = {plan["Function Name"]} if "Function Name" in plan else set()
        return own.union(*(_called(value) for value in plan.values()))
    if isinstance(plan, list):
        return set().union(*(_called(value) for value in plan))
    return set(_names_before_parentheses(plan)) if isinstance(plan, str) else set()


def _names_before_parentheses(text: str) -> Iterator[str]:
    for before in text.split("(")[:-1]:
        head = before.rstrip()
        if head.endswith('"'):
            yield head[:-1].rpartition('"')[2]
            continue
        start = len(head)
        while start and (head[start - 1].isalnum() or head[start - 1] in "_$"):
            start -= 1
        if start < len(head):
            yield head[start:]


def _rows(result: pq.abc.PGresult) -> Iterator[tuple[bytes | None, ...]]:
    for row in range(result.ntuples):
        yield tuple(result.get_value(row, i) for i in range(result.nfields))


def _shown(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = _text(value)
    cut = len(text) > CELL_CHARACTERS_MAX
    return f"{text[:CELL_CHARACTERS_MAX]}..." if cut else text


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
