"""A compute at work: its sessions, and what ends them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import HarnessError
from harness.lakebase.standin.compute import Compute, State
from harness.lakebase.standin.wire import Refusal

if TYPE_CHECKING:
    from harness.lakebase.standin.backing import Backing
    from harness.lakebase.standin.journal import Journal
    from harness.lakebase.standin.plan import StandinPlan

# What a session is told when no server process can tell it.
SHUTDOWN = Refusal("57P01", "terminating connection due to administrator command")
IDLE = Refusal("57P05", "terminating connection due to idle-session timeout", "idle")
OLD = Refusal("57P01", "terminating connection due to administrator command", "old")
NOT_YET = Refusal("57P03", "the database system is starting up", "no primary")
DISABLED = Refusal("57P03", "the endpoint is disabled", "disabled")
FULL = Refusal("53300", "sorry, too many clients already", "max_connections")


class Connected(Protocol):
    """What a compute ends: a session, or a pooler's client."""

    pid: int

    @property
    def running(self) -> bool:
        """Whether something was asked and not answered yet."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def idle_s(self, now_ns: int) -> float:
        """Return how long nothing was asked."""
        ...

    def age_s(self, now_ns: int) -> float:
        """Return the time since the login."""
        ...

    def end(self, refusal: Refusal) -> None:
        """End it with a reason."""
        ...


class Slots:
    """The connections of one Postgres: the primary's, or a replica's."""

    def __init__(self) -> None:
        self.sessions: set[Connected] = set()
        self.taken = 0
        self.peak = 0

    def take(self, limit: int) -> None:
        """Take a slot.

        Raises:
            Refusal: There is none left.
        """
        if self.taken >= limit:
            raise FULL
        self.taken += 1
        self.peak = max(self.peak, self.taken)

    def give_back(self, session: Connected | None = None) -> None:
        """Give a slot back."""
        self.taken -= 1
        if session is not None:
            self.sessions.discard(session)


class Machine:
    """One compute with its sessions.

    Args:
        compute: What it is.
        plan: Its times.
        backing: The Postgres behind it.
        journal: Where what happens is noted.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        plan: StandinPlan,
        backing: Backing,
        journal: Journal,
    ) -> None:
        self.compute = compute
        self.primary, self.replica = Slots(), Slots()
        self.pool_clients: set[Connected] = set()
        self._plan = plan
        self._backing = backing
        self._journal = journal
        self._waking: asyncio.Task[None] | None = None
        self._active_ns = SYSTEM_CLOCK.monotonic_ns()
        self._restarted_ns: int | None = None
        self._changing = asyncio.Lock()

    def everything(self) -> list[Connected]:
        """Return every session and every client of the pooler."""
        return [*self.primary.sessions, *self.replica.sessions, *self.pool_clients]

    def up_s(self) -> float | None:
        """Seconds since its last start; None if it never stopped."""
        if self._restarted_ns is None:
            return None
        return (SYSTEM_CLOCK.monotonic_ns() - self._restarted_ns) / NS_PER_S

    async def ready(self) -> None:
        """Wait until it takes logins; the first to a suspended one wakes it.

        Raises:
            Refusal: It takes none: disabled, or without a primary for a moment.
        """
        self._active_ns = SYSTEM_CLOCK.monotonic_ns()
        state = self.compute.state
        if state is State.DISABLED:
            raise DISABLED
        if state in {State.FAILING_OVER, State.RESIZING}:
            raise NOT_YET
        if state is State.SUSPENDED or self._waking is not None:
            if self._waking is None:
                self._waking = asyncio.create_task(self._wake())
            await asyncio.shield(self._waking)
        self._active_ns = SYSTEM_CLOCK.monotonic_ns()

    async def suspend(self) -> None:
        """End every session, empty the cache, and wait for a login."""
        async with self._changing:
            if self.compute.state is not State.ACTIVE:
                return
            self.compute.state = State.SUSPENDED
            ended = await self._end_all()
            emptied = await self._backing.empty_buffers(self.compute.namespace)
            told: dict[str, int | None] = {
                "buffers_emptied": None,
                "buffers_left": None,
            }
            if emptied is not None:
                told = {"buffers_emptied": emptied[0], "buffers_left": emptied[1]}
            self._journal.note("suspend", compute=self.compute.uid, ended=ended, **told)

    async def fail_over(self) -> None:
        """End the primary's sessions; for a moment there is no primary."""
        await self._interrupt(State.FAILING_OVER, kind="failover")

    async def resize(self, cu: float) -> None:
        """Change the size, which ends every session."""
        await self._interrupt(State.RESIZING, kind="resize", cu=cu)

    async def tick(self) -> None:
        """End what is too old or idle; suspend if nothing was asked for long."""
        plan, now_ns = self._plan, SYSTEM_CLOCK.monotonic_ns()
        idle_s, life_s = plan.here_s(plan.idle_timeout_s), plan.here_s(plan.lifetime_s)
        for session in self.everything():
            age_s, quiet_s = session.age_s(now_ns), session.idle_s(now_ns)
            refusal = OLD if age_s >= life_s else IDLE if quiet_s >= idle_s else None
            if refusal is not None:
                self._journal.note(
                    "kill",
                    compute=self.compute.uid,
                    pid=session.pid,
                    reason=refusal.reason,
                    age_s=round(age_s, 3),
                    idle_s=round(quiet_s, 3),
                )
                await self._end(session, refusal)
        if plan.suspend_after_s is None or self.compute.state is not State.ACTIVE:
            return
        sessions = self.everything()
        if any(s.running or s.in_transaction for s in sessions) or (
            plan.connections_keep_awake and sessions
        ):
            self._active_ns = now_ns
        quiet_s = min(
            [(now_ns - self._active_ns) / 1e9, *(s.idle_s(now_ns) for s in sessions)]
        )
        if quiet_s >= plan.here_s(plan.suspend_after_s):
            await self.suspend()

    async def _wake(self) -> None:
        async with self._changing:
            self.compute.state = State.WAKING
            await asyncio.sleep(self._plan.wake_s)
            self._restarted_ns = SYSTEM_CLOCK.monotonic_ns()
            self.compute.state = State.ACTIVE
            self.compute.wakes += 1
            self._waking = None
            self._journal.note(
                "wake", compute=self.compute.uid, after_s=self._plan.wake_s
            )

    async def _interrupt(
        self, state: State, *, kind: str, cu: float | None = None
    ) -> None:
        async with self._changing:
            before = self.compute.state
            if before is not State.ACTIVE:
                # Nobody is connected to what sleeps.
                self.compute.cu = cu or self.compute.cu
                self._journal.note(kind, compute=self.compute.uid, ended=0)
                return
            self.compute.state = state
            # A replica outlives its primary, but not another size.
            slots = [self.primary, *([self.replica] if cu is not None else [])]
            ended = await self._end_all(slots)
            await asyncio.sleep(self._plan.failover_s)
            self.compute.cu = cu or self.compute.cu
            self._restarted_ns = SYSTEM_CLOCK.monotonic_ns()
            self.compute.state = State.ACTIVE
            self._journal.note(
                kind, compute=self.compute.uid, ended=ended, cu=self.compute.cu
            )

    async def _end_all(self, slots: list[Slots] | None = None) -> int:
        """End sessions as Postgres itself does, in the middle of a query too."""
        chosen = slots if slots is not None else [self.primary, self.replica]
        sessions = [s for one in chosen for s in one.sessions]
        clients = list(self.pool_clients)
        with suppress(HarnessError):
            await self._backing.terminate(s.pid for s in sessions if s.pid)
        for client in clients:
            client.end(SHUTDOWN)
        return len(sessions) + len(clients)

    async def _end(self, session: Connected, refusal: Refusal) -> None:
        if session.running and session.pid:
            # Its process must stop working too, and says so itself.
            with suppress(HarnessError):
                await self._backing.terminate([session.pid])
        else:
            session.end(refusal)
