"""The stand-in itself: control plane and front, wired together in one process."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.lakebase.standin.backing import Backing
from harness.lakebase.standin.control import ControlPlane
from harness.lakebase.standin.events import Event, read_events
from harness.lakebase.standin.front import Front
from harness.lakebase.standin.http_faults import HttpFault
from harness.lakebase.standin.http_server import serve_connection
from harness.lakebase.standin.journal import Journal
from harness.lakebase.standin.machine import Machine
from harness.lakebase.standin.plan import DAY_S, HOST, StandinPlan
from harness.lakebase.standin.resources import Resources
from harness.lakebase.standin.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.lakebase.standin.child import Command
    from harness.lakebase.standin.compute import Compute


class StandinService:
    """Everything that runs in the stand-in's process.

    Args:
        plan: How it behaves.
        backing: How to log in to the Postgres behind it; None for a control plane
            alone.
    """

    def __init__(self, plan: StandinPlan, backing: Mapping[str, Any] | None) -> None:
        self.plan = plan
        self.journal = Journal()
        self.tokens = Tokens(plan)
        # Several stand-ins may share one Postgres.
        self.resources = Resources(plan, namespace=f"s{secrets.token_hex(3)}_")
        self.backing = None if backing is None else Backing(backing, plan)
        self.machines: dict[str, Machine] = {}
        self._playing: asyncio.Task[None] | None = None
        self.control = ControlPlane(
            plan=plan,
            resources=self.resources,
            tokens=self.tokens,
            journal=self.journal,
            clock=SYSTEM_CLOCK,
            resize=self._resize,
        )

    async def start(self, *, port: int = 0) -> dict[str, Any]:
        """Begin to serve; return what the parent must know."""
        server = await asyncio.start_server(
            lambda r, w: serve_connection(r, w, self.control.answer), HOST, port
        )
        self.control.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        ready: dict[str, Any] = {"url": self.control.url, "port": None, "root": ""}
        self._running: list[Any] = [server]
        if self.backing is not None:
            await self.backing.prepare()
            self._front = Front(
                plan=self.plan,
                resources=self.resources,
                tokens=self.tokens,
                backing=self.backing,
                journal=self.journal,
                machine_of=self.machine,
            )
            ready["port"] = await self._front.start()
            ready["root"] = self._front.root_pem
            self._running.append(asyncio.create_task(self._tick()))
        return ready

    async def stop(self) -> None:
        """Drop what was made in the backing Postgres."""
        if self.backing is not None:
            await self.backing.clean_up()

    def machine(self, uid: str) -> Machine:
        """Return a compute at work."""
        if uid not in self.machines:
            if self.backing is None:
                msg = "this stand-in is a control plane alone"
                raise ConfigError(msg)
            self.machines[uid] = Machine(
                self.resources.computes[uid],
                plan=self.plan,
                backing=self.backing,
                journal=self.journal,
            )
        return self.machines[uid]

    def commands(self) -> dict[str, Command]:
        """Return what the parent may ask for."""
        return {
            "journal": self.journal.to_mapping,
            "clear_journal": self.journal.clear,
            "fail_http": self._fail_http,
            "heal_http": self.control.faults.clear,
            "tokens": lambda: list(self.tokens.minted),
            "revoke_tokens": self.tokens.revoke_all,
            "set_tokens": self._set_tokens,
            "set_status": self._set_status,
            "suspend": lambda name: self._at(name).suspend(),
            "fail_over": lambda name: self._at(name).fail_over(),
            "resize": lambda name, cu: self._at(name).resize(cu),
            "play": self._play,
            "stats": self._stats,
        }

    def _play(self, name: str, events: list[dict[str, Any]]) -> None:
        """Begin a list of events, in place of one that still plays."""
        if self._playing is not None:
            self._playing.cancel()
        self._playing = asyncio.create_task(
            self._perform(self._at(name), read_events(events))
        )

    async def _perform(self, machine: Machine, events: list[Event]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for event in events:
            await asyncio.sleep(began + event.at_s - loop.time())
            if event.do == "resize":
                await machine.resize(event.cu or machine.compute.cu)
            elif event.do == "revoke_tokens":
                self.tokens.revoke_all()
            else:
                await getattr(machine, event.do)()

    def _fail_http(self, fault: Mapping[str, Any]) -> None:
        self.control.faults.add(HttpFault(**fault), now_s=self.journal.elapsed_s())

    def _set_tokens(self, life_s: float | None, expires_ahead_s: float) -> None:
        self.control.life_s = life_s
        self.control.expires_ahead_s = expires_ahead_s

    def _set_status(self, name: str, override: dict[str, Any]) -> None:
        self.resources.compute_of(name)
        tables = (self.resources.endpoints, self.resources.instances)
        for table in tables:
            if name in table:
                table[name].override = override

    def _at(self, name: str) -> Machine:
        return self.machine(self.resources.compute_of(name).uid)

    def _stats(self, name: str) -> dict[str, Any]:
        machine = self._at(name)
        compute = machine.compute
        return {
            "state": compute.state.name,
            "cu": compute.cu,
            "max_connections": compute.max_connections,
            "wakes": compute.wakes,
            "playing": self._playing is not None and not self._playing.done(),
            "hosts": list(compute.routes()),
            **{
                f"{kind}_{what}": getattr(slots, what)
                for kind, slots in (
                    ("primary", machine.primary),
                    ("replica", machine.replica),
                )
                for what in ("taken", "peak")
            },
        }

    async def _tick(self) -> None:
        """Look after limits that pass with time, often enough for the shortest."""
        plan = self.plan
        times = [plan.idle_timeout_s, plan.lifetime_s, plan.suspend_after_s or DAY_S]
        pause_s = min(1.0, max(0.01, plan.here_s(min(times)) / 20))
        while True:
            await asyncio.sleep(pause_s)
            for machine in list(self.machines.values()):
                await machine.tick()

    async def _resize(self, compute: Compute, cu: float) -> None:
        if self.backing is None:
            compute.cu = cu
        else:
            await self.machine(compute.uid).resize(cu)
