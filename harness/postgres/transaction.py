"""A transaction that is begun again when the server says it may be."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus

from harness.errors import HarnessError, OutcomeUnknownError, WorkNotDoneError
from harness.postgres.classify import Phase
from harness.postgres.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.errors import RetryAttempt
    from harness.postgres.pool import Pool

Value = TypeVar("Value")

COMMITTED, ABORTED = "committed", "aborted"


def run_transaction(
    pool: Pool,
    work: Callable[[Any], Value],
    *,
    recovery: Recovery | None = None,
    name: str = "transaction",
    begin: str = "BEGIN",
    settle: bool = False,
    attempts: list[RetryAttempt] | None = None,
) -> Value:
    """Run *work* in a transaction on a pooled connection, again where that is safe.

    Before the commit is sent a lost connection, a deadlock or a serialization
    failure undoes everything, so the transaction starts again on another connection.
    A commit whose answer is lost is not repeated.

    Args:
        pool: Where connections come from.
        work: Gets a connection in an open transaction; called once per attempt, so
            it must not keep what it did before.
        recovery: How often and how long.
        name: What it is called in logs and errors.
        begin: Statement that begins it, such as `BEGIN ISOLATION LEVEL
            SERIALIZABLE`.
        settle: Ask the server what became of a commit whose answer was lost, by its
            transaction id; costs a round trip per transaction.
        attempts: Every failed attempt is added to it.

    Raises:
        OutcomeUnknownError: The answer to the commit was lost, and the server could
            not be asked or did not know.
        WorkNotDoneError: *work* ended the transaction itself, or hid a failed
            statement, so that nothing was committed.
    """
    recovery = recovery or Recovery()
    run = _Run(pool, work, begin=begin, settle=settle)
    while True:
        try:
            recovery.call(
                run.once, name=name, phase=lambda: run.phase, attempts=attempts
            )
            return cast("Value", run.result)
        except OutcomeUnknownError:
            if run.transaction_id is None:
                raise
            outcome = _outcome(pool, run.transaction_id, recovery, name=name)
            if outcome == COMMITTED:
                return cast("Value", run.result)
            if outcome != ABORTED:
                raise
            if not recovery.budget.spend():
                raise
            # Certainly undone: as good as never begun.


class _Run:
    """One transaction and how far its latest attempt came."""

    def __init__(
        self, pool: Pool, work: Callable[[Any], Any], *, begin: str, settle: bool
    ) -> None:
        self._pool = pool
        self._work = work
        self._begin = begin
        self._settle = settle
        self.phase = Phase.CONNECT
        self.result: Any = None
        self.transaction_id: str | None = None

    def once(self) -> None:
        """Begin, work and commit on one connection."""
        self.phase, self.transaction_id = Phase.CONNECT, None
        with self._pool.checkout() as connection:
            self.phase = Phase.TRANSACTION
            connection.execute(self._begin)
            try:
                self.result = self._work(connection)
                self._check(connection)
                if self._settle:
                    self.transaction_id = _transaction_id(connection)
            except BaseException:
                with suppress(psycopg.Error):
                    connection.rollback()
                raise
            self.phase = Phase.COMMIT
            connection.execute("COMMIT")

    def _check(self, connection: Any) -> None:
        """Refuse to commit what is no open transaction any more.

        The server answers a COMMIT after a failed statement with a rollback, and
        without an error.
        """
        status = connection.info.transaction_status
        if status == TransactionStatus.INERROR:
            msg = (
                "a statement of the transaction failed and its error was hidden: "
                "nothing was committed"
            )
            raise WorkNotDoneError(msg)
        if status == TransactionStatus.IDLE:
            msg = "the work ended its transaction itself: leave that to the caller"
            raise WorkNotDoneError(msg)


def _transaction_id(connection: Any) -> str | None:
    row = connection.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
    return row[0] if row else None


def _outcome(
    pool: Pool, transaction_id: str, recovery: Recovery, *, name: str
) -> str | None:
    """Ask what became of a transaction; None where nobody can tell."""

    def ask() -> str | None:
        with pool.checkout() as connection:
            row = connection.execute(
                "SELECT pg_xact_status(%s::text::xid8)", [transaction_id]
            ).fetchone()
        return row[0] if row else None

    try:
        return recovery.call(ask, name=f"{name}: outcome", idempotent=True)
    except (HarnessError, psycopg.Error):
        return None
