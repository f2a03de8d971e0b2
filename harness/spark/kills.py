"""What `kill -9` leaves behind, many times over, from one run.

A process that is stopped (SIGSTOP) writes nothing. So a copy of its files made
meanwhile is what a kill at that moment would have left: what was written is there,
what was not is not, and no shutdown code has run. Then the process goes on, and is
stopped again elsewhere. Each copy is a crash to recover from.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import psutil

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import SparkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pyspark.sql.streaming.query import StreamingQuery

    from harness.spark.lab import Lab, Place, Query, Run

_STOP_TIMEOUT_S = 10.0
_STOP_POLL_S = 0.001
_POLL_DELAY_S = 0.001
_FIRST_BATCH_S = 0.5
_TIMEOUT_S = 120.0
_RUNS_SPARE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Kill:
    """One crash.

    Attributes:
        place: The files as they were.
        begun: Micro-batches begun by each query: in its log of offsets.
        done: Micro-batches noted as done by each query.
        after_commit: Whether it was aimed at the moment when a table had its rows
            and the checkpoint did not know.
    """

    place: Place
    begun: tuple[int, ...]
    done: tuple[int, ...]
    after_commit: bool

    @property
    def inside_batch(self) -> bool:
        """Whether a micro-batch was under way, which a restart must do again."""
        return self.begun != self.done


class Killer:
    """Takes kills while queries run: pass `watch` to `Lab.run`.

    Half of the kills are aimed: at the moment a table's log has a new version and the
    checkpoint does not have the batch, where writing twice would go wrong. The others
    are anywhere. The moments follow from the seed, as far as a machine repeats itself.

    A run may end before all were taken: two that are aimed need two commits, and on a
    busy machine a moment passes before the process is stopped. Those are `left_count`,
    and are taken while the same queries run once more, in another place.

    Args:
        lab: What runs them.
        groups: The queries of the run, those together that run together.
        count: How many kills to take.
        seed: Of the moments.
        clock: For the waits between.
    """

    def __init__(
        self,
        lab: Lab,
        groups: Sequence[Sequence[Query]],
        *,
        count: int,
        seed: int,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if lab.jvm_pid is None:
            msg = "kills need a JVM of this machine; this session's is elsewhere"
            raise SparkError(msg)
        self._lab = lab
        self._pid = lab.jvm_pid
        self._groups = groups
        self._queries = [query for group in groups for query in group]
        self._clock = clock
        self._plans = _plans(groups, count=count, seed=seed)
        self._next_group = 0
        self.kills: list[Kill] = []

    @property
    def left_count(self) -> int:
        """How many kills are still to be taken."""
        return sum(map(len, self._plans))

    def begin(self) -> list[Query]:
        """Return what to run for the kills that are left: nothing after the last.

        Their groups are gone through from the first one again.
        """
        self._next_group = 0
        last = max(index for index, plan in enumerate(self._plans) if plan)
        group, (batch, _, aimed) = self._groups[last], self._plans[last][-1]
        # An aimed kill is in the batch it names. Any other, and one of several queries,
        # may come a batch later.
        further = 1 if aimed and len(group) == 1 else 2
        before = [query for group in self._groups[:last] for query in group]
        return before + [replace(q, batches_max=batch + further) for q in group]

    def watch(self, place: Place, handles: Sequence[StreamingQuery]) -> None:
        """Take the kills while the queries of the next group run."""
        group, plan = self._groups[self._next_group], self._plans[self._next_group]
        self._next_group = (self._next_group + 1) % len(self._groups)
        batch_s = _FIRST_BATCH_S
        for planned in list(plan):
            batch, fraction, aimed = planned
            if not self._wait(place, group, handles, batch):
                break
            seen_ns = self._clock.monotonic_ns()
            if aimed:
                kill = self._take_after_commit(place, group, handles, batch)
                if kill is None:
                    continue
                batch_s = (self._clock.monotonic_ns() - seen_ns) / NS_PER_S
            else:
                self._clock.sleep(fraction * batch_s)
                with stopped(self._pid):
                    kill = self._copied(place, aimed=False)
            self.kills.append(kill)
            plan.remove(planned)

    def _wait(
        self,
        place: Place,
        group: Sequence[Query],
        handles: Sequence[StreamingQuery],
        batch: int,
    ) -> bool:
        logs = [place.checkpoint(query.name) / "offsets" for query in group]
        return self._until(
            handles, lambda: any((log / str(batch)).exists() for log in logs)
        )

    def _take_after_commit(
        self,
        place: Place,
        group: Sequence[Query],
        handles: Sequence[StreamingQuery],
        batch: int,
    ) -> Kill | None:
        """Return a kill between a table's commit of a batch and the checkpoint's.

        None where the batch was done before the process had been stopped.
        """
        noted = [place.checkpoint(q.name) / "commits" / str(batch) for q in group]
        known = _versions(place.folder)

        def committed_or_over() -> bool:
            return _versions(place.folder) != known or all(n.exists() for n in noted)

        if not self._until(handles, committed_or_over):
            return None
        with stopped(self._pid):
            if _versions(place.folder) == known:
                return None
            # Of several queries the version may be another's, in another batch.
            if len(group) == 1 and noted[0].exists():
                return None
            if self._begun(place, group) == self._done(place, group):
                return None
            return self._copied(place, aimed=True)

    def _begun(self, place: Place, queries: Sequence[Query]) -> tuple[int, ...]:
        return tuple(_last(place.checkpoint(q.name) / "offsets") + 1 for q in queries)

    def _done(self, place: Place, queries: Sequence[Query]) -> tuple[int, ...]:
        return tuple(_last(place.checkpoint(q.name) / "commits") + 1 for q in queries)

    def _until(
        self, handles: Sequence[StreamingQuery], condition: Callable[[], bool]
    ) -> bool:
        """Wait for a condition; False if the queries ended before."""
        deadline_ns = self._clock.monotonic_ns() + int(_TIMEOUT_S * NS_PER_S)
        polls = 0
        while not condition():
            polls += 1
            # Asking whether a query is active is a call into the JVM.
            if polls % 50 == 0 and not any(h.isActive for h in handles):
                return False
            if self._clock.monotonic_ns() > deadline_ns:
                return False
            self._clock.sleep(_POLL_DELAY_S)
        return True

    def _copied(self, place: Place, *, aimed: bool) -> Kill:
        copy = self._lab.copy(place)
        return Kill(
            place=copy,
            begun=self._begun(copy, self._queries),
            done=self._done(copy, self._queries),
            after_commit=aimed,
        )


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, all its threads; let it go on at the end.

    Raises:
        SparkError: If it does not stop in time.
    """
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        # The signal is on its way; until it has arrived the process still writes.
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(_STOP_TIMEOUT_S * NS_PER_S)
        while process.status() != psutil.STATUS_STOPPED:
            if SYSTEM_CLOCK.monotonic_ns() > deadline_ns:
                msg = f"process {pid} did not stop in {_STOP_TIMEOUT_S:g} s"
                raise SparkError(msg)
            SYSTEM_CLOCK.sleep(_STOP_POLL_S)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def recoveries(
    lab: Lab,
    *queries: Query,
    count: int,
    seed: int,
    prepare: Callable[[Place], object] | None = None,
    in_turn: bool = False,
) -> Iterator[tuple[Kill, Run]]:
    """Run queries, kill them *count* times, and yield each kill with its recovery.

    Args:
        lab: What runs them.
        queries: See `Lab.run`.
        count: How many kills.
        seed: Of their moments.
        prepare: Makes the tables that must be there before.
        in_turn: See `Lab.run`.

    Raises:
        SparkError: If kills are left that no run gave, or none hit a micro-batch: then
            nothing was tried.
    """
    groups = [(query,) for query in queries] if in_turn else [queries]
    killer = Killer(lab, groups, count=count, seed=seed)
    runs_count = 0
    while killer.left_count:
        if runs_count == count + _RUNS_SPARE:
            msg = f"{killer.left_count} of {count} kills missed in {runs_count} runs"
            raise SparkError(msg)
        place = lab.place()
        if prepare is not None:
            prepare(place)
        lab.run(
            *killer.begin(),
            place=place,
            in_turn=in_turn,
            metered=False,
            watch=killer.watch,
        )
        runs_count += 1
    if not any(kill.inside_batch for kill in killer.kills):
        msg = f"none of {len(killer.kills)} kills hit a micro-batch of {queries}"
        raise SparkError(msg)
    for kill in killer.kills:
        for query in queries:
            forget_unborn(kill.place.checkpoint(query.name))
        run = lab.run(*queries, place=kill.place, in_turn=in_turn, metered=False)
        yield kill, run


def forget_unborn(checkpoint: Path) -> bool:
    """Remove the checkpoint of a query killed while it wrote its very first offsets.

    Such a checkpoint holds a temporary file and no batch. Spark 4.2 refuses to start
    from it (STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY) and asks for what is done here;
    nothing is lost, as no batch had begun.

    Args:
        checkpoint: Folder of the query's checkpoint; may be absent.

    Returns:
        Whether there was one to remove.
    """
    log = checkpoint / "offsets"
    if _last(log) >= 0 or not log.is_dir() or not any(log.iterdir()):
        return False
    shutil.rmtree(checkpoint)
    return True


def _plans(
    groups: Sequence[Sequence[Query]], *, count: int, seed: int
) -> list[list[tuple[int, float, bool]]]:
    """Return the kills of each group: batch, how far into it, and whether aimed."""
    random = np.random.default_rng(seed)
    plans: list[list[tuple[int, float, bool]]] = [[] for _ in groups]
    for index in range(count):
        chosen = int(random.integers(len(groups)))
        batches_count = min(query.batches_count or 1 for query in groups[chosen])
        kill = (
            int(random.integers(batches_count)), float(random.random()), index % 2 == 0
        )  # fmt: skip
        plans[chosen].append(kill)
    return [sorted(plan, key=lambda kill: kill[0]) for plan in plans]


def _last(log: Path) -> int:
    """Return the highest batch in a log of the checkpoint; -1 if there is none."""
    if not log.is_dir():
        return -1
    numbers = [int(p.name) for p in log.iterdir() if p.name.isdigit()]
    return max(numbers, default=-1)


def _versions(folder: Path) -> int:
    """Return how many versions all tables in *folder* have."""
    return sum(1 for _ in folder.glob("*/_delta_log/*.json"))
