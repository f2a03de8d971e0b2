"""A ledger: inserts that are never repeated blindly, and what became of each."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import OutcomeUnknownError, WorkNotDoneError
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.postgres.transaction import run_transaction
from harness.retry_budget import RetryBudget

if TYPE_CHECKING:
    from harness.errors import RetryAttempt
    from harness.load import OperationContext
    from harness.postgres.pool import Pool

# A server may be away for seconds; a caller who waits so long still gets its answer.
POLICY = RetryPolicy(retries_max=20, delay_min_s=0.02, delay_max_s=0.5, deadline_s=30.0)
# All callers of a pool may lose their connections at once, and again at the next fault.
BUDGET_BURST = 200.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerAudit:
    """What was asked for, what callers were told, and what stands in the table.

    `offered = acknowledged + refused + unknown`, or an operation was not reported.

    Attributes:
        offered: Operations begun.
        acknowledged: Those whose caller was told that they are done.
        refused: Those whose caller was told that they are certainly not done.
        unknown: Those whose caller was told that nobody knows.
        unknown_done: Of these, the ones found in the table.
        retried: Attempts that failed and were followed by another.
        attempts_by_cause: Failed attempts by SQLSTATE or class, category and verdict.
        lost: Acknowledged numbers that are not in the table.
        doubled: Numbers that are in the table more than once.
        ghosts: Numbers in the table that were refused, or never offered.
    """

    offered: int
    acknowledged: int
    refused: int
    unknown: int
    unknown_done: int
    retried: int
    attempts_by_cause: dict[str, int]
    lost: tuple[int, ...]
    doubled: tuple[int, ...]
    ghosts: tuple[int, ...]

    def faults(self) -> list[str]:
        """Return what must not be, in words; empty if all is well."""
        found = [
            f"{len(numbers)} {what} (such as {', '.join(map(str, numbers[:5]))})"
            for numbers, what in (
                (self.lost, "acknowledged and not there"),
                (self.doubled, "there more than once"),
                (self.ghosts, "there and not asked for, or refused"),
            )
            if numbers
        ]
        missing = self.offered - self.acknowledged - self.refused - self.unknown
        if missing:
            found.append(f"{missing} neither completed nor reported")
        return found

    def details(self) -> dict[str, Any]:
        """Return the counts for a report."""
        return {
            "ledger_offered": self.offered,
            "ledger_acknowledged": self.acknowledged,
            "ledger_refused": self.refused,
            "ledger_unknown": self.unknown,
            "ledger_unknown_done": self.unknown_done,
            "ledger_retried": self.retried,
            "ledger_attempts_failed": dict(self.attempts_by_cause),
        }


class Ledger:
    """Inserts a number that is never used again, in a transaction of its own.

    Pass it to a load of threads as the operation. A failure that passes is retried
    (`run_transaction`); what the caller is told in the end is written down, and
    `audit` holds it against the table, which has no unique index: what was done
    twice is there twice.

    Args:
        pool: Where connections come from.
        recovery: How often and how long to try again; default patient.
        settle_every: Every nth operation asks the server what became of a commit
            whose answer was lost; 0 is none, 1 is all.
        table: Name of the table, which is made anew.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        recovery: Recovery | None = None,
        settle_every: int = 0,
        table: str = "ledger",
    ) -> None:
        self._pool = pool
        self._recovery = recovery or Recovery(
            POLICY, budget=RetryBudget(burst=BUDGET_BURST)
        )
        self._settle_every = settle_every
        self._table = table
        self._insert = f'INSERT INTO "{table}" VALUES (%s)'  # noqa: S608 - our name
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._offered: set[int] = set()
        self._told: dict[int, str] = {}
        self._attempts: Counter[str] = Counter()
        self._retried = 0
        with pool.checkout() as connection:
            connection.execute(f'DROP TABLE IF EXISTS "{table}"')
            connection.execute(f'CREATE TABLE "{table}" (number bigint NOT NULL)')

    def __call__(self, context: OperationContext) -> None:
        """Insert the next number."""
        with self._lock:
            number = next(self._numbers)
            self._offered.add(number)
        attempts: list[RetryAttempt] = []

        def work(connection: Any) -> None:
            context.acquired()
            connection.execute(self._insert, (number,))

        # Whatever ends it otherwise, as Ctrl-C does: nobody knows.
        told = "unknown"
        try:
            run_transaction(
                self._pool,
                work,
                recovery=self._recovery,
                name="ledger insert",
                settle=bool(self._settle_every) and not number % self._settle_every,
                attempts=attempts,
            )
            told = "acknowledged"
        except OutcomeUnknownError:
            raise
        except Exception:
            told = "refused"
            raise
        finally:
            with self._lock:
                self._told[number] = told
                self._retried += sum(attempt.wait_s > 0 for attempt in attempts)
                self._attempts.update(
                    f"{a.sqlstate or a.error} {a.category} {a.verdict}"
                    for a in attempts
                )

    def audit(self) -> LedgerAudit:
        """Hold what callers were told against the table.

        To be called when no operation runs any more.
        """
        select = f'SELECT number, count(*) FROM "{self._table}" GROUP BY 1'  # noqa: S608
        with self._pool.checkout() as connection:
            found: dict[int, int] = dict(connection.execute(select).fetchall())
        with self._lock:
            told = {
                kind: {n for n, was in self._told.items() if was == kind}
                for kind in ("acknowledged", "refused", "unknown")
            }
            may_be_there = told["acknowledged"] | told["unknown"]
            return LedgerAudit(
                offered=len(self._offered),
                acknowledged=len(told["acknowledged"]),
                refused=len(told["refused"]),
                unknown=len(told["unknown"]),
                unknown_done=len(told["unknown"] & found.keys()),
                retried=self._retried,
                attempts_by_cause=dict(self._attempts),
                lost=tuple(sorted(told["acknowledged"] - found.keys())),
                doubled=tuple(sorted(n for n, times in found.items() if times > 1)),
                ghosts=tuple(sorted(found.keys() - may_be_there)),
            )

    def confirm(self) -> LedgerAudit:
        """Return the audit.

        Raises:
            WorkNotDoneError: Something was lost, done twice, or not reported.
        """
        audit = self.audit()
        faults = audit.faults()
        if faults:
            msg = f"the ledger does not add up: {'; '.join(faults)}"
            raise WorkNotDoneError(msg)
        return audit
