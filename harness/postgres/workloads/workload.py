"""A workload: one operation on Postgres, what a worker needs for it, and its proof."""

from __future__ import annotations

import threading
import uuid
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.load.interleaving import current_hub
from harness.postgres.workloads import signatures
from harness.postgres.workloads.interleaved import (
    InterleavedCursorSession,
    InterleavedDirectSession,
)
from harness.postgres.workloads.session import (
    CursorSession,
    DirectSession,
    Session,
    session_of,
)
from harness.postgres.workloads.source import Held, Pooled
from harness.postgres.workloads.tally import Claim, Tally

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from harness.load import OperationContext
    from harness.postgres.pool import Pool

Source = Held | Pooled
MakeSession = Callable[[Any], Session]
INTERLEAVED: dict[MakeSession, MakeSession] = {
    CursorSession: InterleavedCursorSession,
    DirectSession: InterleavedDirectSession,
}


class Worker:
    """What one worker of a workload has to itself.

    Attributes:
        index: Index of the worker.
        tally: What the server told it.
        session: The connection it holds; None where each operation checks one out.
        pool: Where it checks connections out.
        make_session: Makes the session of a connection checked out.
        random: Its random source, once its first operation has brought it.
        key: Gives its next key.
        inserted: Numbers of the records it has inserted.
    """

    __slots__ = (
        "index",
        "inserted",
        "key",
        "make_session",
        "pool",
        "random",
        "session",
        "tally",
    )

    def __init__(
        self,
        *,
        index: int,
        session: Session | None,
        pool: Pool | None,
        make_session: MakeSession = CursorSession,
    ) -> None:
        self.index = index
        self.make_session = make_session
        self.tally = Tally()
        self.session = session
        self.pool = pool
        self.random: random.Random | None = None
        self.key: Callable[[], int] = _no_key
        self.inserted = array("q")


class Workload(ABC):
    """One operation; pass it to a load together with its four set-up functions.

    It can be sent to other processes: each then opens its own connections, and
    every worker signs for its tally in a table on the server, so that the proof
    covers them all. Workers draw from the seed of the load and their own index.

    Args:
        source: Where connections come from: `Held`, `Pooled`, or a pool that is
            open already and stays in this process.
        direct: Talk to libpq through psycopg.pq instead of a cursor.
    """

    _pool: Pool | None
    _lock: threading.Lock
    _workers: list[Worker]
    _present: set[Worker]

    def __init__(self, source: Source | Pool, *, direct: bool = False) -> None:
        self.source = source
        self.make_session: MakeSession = DirectSession if direct else CursorSession
        self.run_id = uuid.uuid4().hex
        self.is_remote = False
        self._reset()

    @abstractmethod
    def operate(self, session: Session, worker: Worker) -> None:
        """Run one operation and note in the tally what the server answered."""

    def begin(self, worker: Worker, source: random.Random) -> None:
        """Seed what one worker draws from; called before its first operation."""
        worker.random = source

    def claims(self, tally: Tally) -> dict[str, Claim]:
        """Return what the server must show for *tally*, by name."""
        del tally
        return {}

    def contents(self, session: Session) -> dict[str, int]:
        """Return the server's numbers that are read from the tables themselves."""
        del session
        return {}

    def statistics(self, session: Session) -> dict[str, int]:
        """Return the server's numbers that its statistics collector counts."""
        del session
        return {}

    def broken_invariants(self, session: Session) -> list[str]:
        """Return what must hold in the tables after any load, and does not."""
        del session
        return []

    def __call__(self, context: OperationContext) -> None:
        """Run one operation."""
        worker: Worker = context.state
        if worker.random is None:
            self.begin(worker, context.random)
        session = worker.session
        if session is not None:
            self.operate(session, worker)
        else:
            assert worker.pool is not None  # noqa: S101 - one of the two is given
            with worker.pool.checkout() as connection:
                context.acquired()
                self.operate(session_of(connection, worker.make_session), worker)
        worker.tally.operations += 1

    def process_setup(self) -> Pool | None:
        """Open what the workers of one process share, and return it."""
        return None if isinstance(self.source, Held) else self.pool()

    def process_teardown(self, _shared: Any = None) -> None:
        """Close what `process_setup` has opened."""
        if isinstance(self.source, Pooled) and self._pool is not None:
            self._pool.close()
            self._pool = None

    def setup(self, index: int) -> Worker:
        """Return what one worker needs."""
        held, pool, make_session = None, None, self.make_session
        if current_hub() is not None:
            make_session = INTERLEAVED[make_session]
        if isinstance(self.source, Held):
            held = make_session(self.source.connect())
        else:
            pool = self.pool()
            if make_session is not self.make_session:
                self._check_room(pool)
        worker = Worker(index=index, session=held, pool=pool, make_session=make_session)
        self._present.add(worker)
        self._workers.append(worker)
        return worker

    def teardown(self, worker: Worker) -> None:
        """Sign for what the worker has done, and close its connection."""
        self._present.discard(worker)
        try:
            if self.is_remote:
                with self.lent_session(worker) as session:
                    signatures.sign(
                        session.connection,
                        run_id=self.run_id,
                        worker=worker.index,
                        tally=worker.tally,
                    )
        finally:
            if worker.session is not None:
                worker.session.connection.close()

    def tally(self, session: Session) -> Tally:
        """Return what the server told all workers so far, warm-up included."""
        here = sum((worker.tally for worker in self._workers), Tally())
        return here + signatures.signed(session.connection, run_id=self.run_id)

    def pool(self) -> Pool:
        """Return the pool of this process, open."""
        if not isinstance(self.source, Held | Pooled):
            return self.source
        assert isinstance(self.source, Pooled)  # noqa: S101 - callers have looked
        with self._lock:
            if self._pool is None:
                self._pool = self.source.open()
            return self._pool

    def pool_here(self) -> Pool | None:
        """Return the pool that is open in this process, if there is one."""
        return self._pool if isinstance(self.source, Held | Pooled) else self.source

    @contextmanager
    def lent_session(self, worker: Worker | None = None) -> Iterator[Session]:
        """Lend a session for what is not part of the load."""
        if worker is not None and worker.session is not None:
            yield worker.session
        elif isinstance(self.source, Held | Pooled):
            from harness.postgres.connect import connect

            # Not of the pool, which the load may have closed.
            with connect(self.source.server.connect_arguments()) as connection:
                yield CursorSession(connection)
        else:
            with self.source.checkout() as connection:
                yield session_of(connection, self.make_session)

    def _check_room(self, pool: Pool) -> None:
        """Refuse one interleaved worker more than the pool has connections.

        A pool has its callers wait in a way that stops their thread: the one thread
        in which whoever holds a connection would give it back.
        """
        room = pool.config.size_max
        if len(self._present) >= room:
            msg = (
                f"interleaved workers cannot wait for a pool: {pool.name!r} has "
                f"size_max={room}, and each process has more workers than that"
            )
            raise ConfigError(msg)

    def _reset(self) -> None:
        self._pool = None
        self._present = set()
        self._lock = threading.Lock()
        self._workers = []

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        own = {"_pool", "_lock", "_workers", "_present"}
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew in another process."""
        vars(self).update(state)
        self.is_remote = True
        self._reset()


def _no_key() -> int:
    msg = "this workload draws no keys"
    raise NotImplementedError(msg)
