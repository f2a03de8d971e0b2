"""The stand-in itself: control plane and front, wired together in one process."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.standin.compute import Compute, State
from harness.lakebase.standin.control import ControlPlane
from harness.lakebase.standin.http_faults import HttpFault
from harness.lakebase.standin.http_server import serve_connection
from harness.lakebase.standin.journal import Journal
from harness.lakebase.standin.plan import HOST, StandinPlan
from harness.lakebase.standin.resources import Resources
from harness.lakebase.standin.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.lakebase.standin.child import Command


class StandinService:
    """Everything that runs in the stand-in's process.

    Args:
        plan: How it behaves.
        namespace: Prefix of its databases in the backing Postgres.
    """

    def __init__(self, plan: StandinPlan, *, namespace: str | None = None) -> None:
        self.plan = plan
        self.journal = Journal()
        self.tokens = Tokens(plan)
        self.namespace = namespace or f"s{secrets.token_hex(3)}_"
        self.resources = Resources(plan, namespace=self.namespace)
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
        self._servers = [server]
        return {"url": self.control.url, "namespace": self.namespace}

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
            "set_state": self._set_state,
        }

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

    def _set_state(self, name: str, state: str) -> None:
        self.resources.compute_of(name).state = State[state]

    async def _resize(self, compute: Compute, cu: float) -> None:
        compute.cu = cu
        self.journal.note("resize", compute=compute.uid, cu=cu)


def plan_facts(plan: StandinPlan) -> dict[str, Any]:
    """Return what a report may say of a plan: nothing secret."""
    hidden = {field.name for field in dataclasses.fields(plan) if not field.repr}
    facts = dataclasses.asdict(plan)
    return {name: value for name, value in facts.items() if name not in hidden}
