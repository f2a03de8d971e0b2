"""The check that a load's work was really done, against the server's own count."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import WorkNotDoneError
from harness.postgres.workloads import signatures
from harness.postgres.workloads.tally import Claim, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.load import LoadResult
    from harness.postgres.workloads.workload import Workload

# A connection that has just been closed reports its last statistics on its way out.
STATISTICS_TIMEOUT_S = 2.0
STATISTICS_POLL_S = 0.05


class Witness:
    """The server's own count of what was done, taken before a load and after it.

    Scans come from the server's statistics; committed rows, updates and sums from
    the tables themselves. Neither depends on what the load generator believes.

    Args:
        workload: About to be run; a pool of this process must be idle now and at
            `confirm`.
        clock: Bounds the wait for the server's statistics.
    """

    def __init__(self, workload: Workload, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._workload = workload
        self._clock = clock
        with workload.lent_session() as session:
            signatures.prepare_table(session.connection)
            self._tally_before = workload.tally(session)
            # In this order, and the other way round in `confirm`: reading a table
            # counts as a scan of it.
            self._contents_before = workload.contents(session)
        self._statistics_before = self._statistics()

    def confirm(self, result: LoadResult) -> Tally:
        """Check that what the load reports is what the server did.

        Completed operations must be matched exactly. Failed and unfinished ones
        may have been carried out or not, so they widen what is accepted.

        Returns:
            What the server told the workers, all of them together.

        Raises:
            WorkNotDoneError: The numbers do not agree; the message has all of them.
        """
        workload = self._workload
        succeeded = int(result.warmup.succeeded.sum())
        reported = result.completed + succeeded
        unknown = result.failed + result.unfinished + len(result.warmup) - succeeded
        with workload.lent_session() as session:
            tally = workload.tally(session) - self._tally_before
        claims = workload.claims(tally)
        found = self._settled_statistics(claims)
        with workload.lent_session() as session:
            contents = workload.contents(session)
            broken = workload.broken_invariants(session)
            signatures.forget(session.connection, run_id=workload.run_id)
        found |= difference(contents, self._contents_before)
        answers = Claim(expected=reported)
        problems = [
            _disagreement(what, counted, claim, unknown)
            for what, counted, claim in (
                ("answers the workers signed for", tally.operations, answers),
                *((what, found[what], claim) for what, claim in claims.items()),
            )
            if not _agrees(counted, claim, unknown)
        ] + broken
        if problems:
            msg = (
                f"the load reports {reported} completed operations of "
                f"{type(workload).__name__}, but the work was not done as reported, "
                f"or somebody else used the table: {'; '.join(problems)}"
            )
            raise WorkNotDoneError(msg)
        return tally

    def _settled_statistics(self, claims: Mapping[str, Claim]) -> dict[str, int]:
        """Return the statistics since the beginning, waiting for late ones."""
        deadline_ns = self._clock.monotonic_ns() + int(STATISTICS_TIMEOUT_S * NS_PER_S)
        while True:
            found = difference(self._statistics(), self._statistics_before)
            complete = all(found[what] >= claims[what].expected for what in found)
            if complete or self._clock.monotonic_ns() > deadline_ns:
                return found
            self._clock.sleep(STATISTICS_POLL_S)

    def _statistics(self) -> dict[str, int]:
        """Return what the server's statistics say once every backend has reported."""
        with ExitStack() as stack:
            pool = self._workload.pool_here()
            if pool is not None:
                # A backend reports its statistics up to a second late, unless told
                # to. All of them are told, so all of them are borrowed at once.
                idle = [
                    stack.enter_context(pool.checkout())
                    for _ in range(pool.stats().idle)
                ]
                for connection in idle:
                    connection.execute("SELECT pg_stat_force_next_flush()")
            # Backends report when their statement has ended: asked by another.
        with self._workload.lent_session() as session:
            return self._workload.statistics(session)


def difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Return by how much each number has grown."""
    return {name: value - before[name] for name, value in after.items()}


def _agrees(counted: int, claim: Claim, unknown: int) -> bool:
    low, high = claim.range(unknown)
    return low <= counted <= high


def _disagreement(what: str, counted: int, claim: Claim, unknown: int) -> str:
    low, high = claim.range(unknown)
    return f"{what}: {counted}, expected {low}" + (f" to {high}" if high > low else "")
