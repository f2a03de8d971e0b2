"""`LakebaseStandin`: a workspace and its Lakebase on this machine, for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import SecretStr

from harness.lakebase.standin.http_faults import HttpFault
from harness.lakebase.standin.parent import ChildProcess
from harness.lakebase.standin.plan import StandinPlan


class LakebaseStandin(ChildProcess):
    """A stand-in in a process of its own.

    Args:
        plan: How it behaves; default is one like the service's.

    Attributes:
        url: What DATABRICKS_HOST must be.
        user: Who the workspace token belongs to.
        endpoint: Name of the Autoscaling endpoint that is there from the start.
        instance: Name of the Provisioned instance.
    """

    def __init__(self, plan: StandinPlan | None = None) -> None:
        self.plan = plan or StandinPlan()
        super().__init__("harness.lakebase.standin", {"plan": self.plan.to_mapping()})
        self.url: str = self.ready["url"]
        self.user = self.plan.user
        self.endpoint = self.plan.endpoint
        self.instance = self.plan.instance
        self.token = SecretStr(self.plan.token)
        self.client_id = self.plan.client_id
        self.client_secret = SecretStr(self.plan.client_secret)

    def fail_http(
        self, path: str = "", *, status: int | None = None, **how: Any
    ) -> None:
        """Have the control plane fail requests; see `HttpFault`."""
        fault = HttpFault(path=path, status=status, **how)
        self.ask("fail_http", fault=dataclasses.asdict(fault))

    def heal_http(self) -> None:
        """Take back every fault of the control plane."""
        self.ask("heal_http")

    def set_token_life(self, life_s: float | None, *, ahead_s: float = 0.0) -> None:
        """Have tokens end after *life_s* real seconds, whatever is asked for.

        Args:
            life_s: None for what was asked for.
            ahead_s: How much later they are said to end than they do.
        """
        self.ask("set_tokens", life_s=life_s, expires_ahead_s=ahead_s)

    def revoke_tokens(self) -> int:
        """End every database token now; return how many were still good."""
        return int(self.ask("revoke_tokens"))

    def minted_tokens(self) -> list[str]:
        """Return every database token minted so far, to look for in what leaks."""
        return list(self.ask("tokens"))

    def set_status(self, name: str | None = None, **override: Any) -> None:
        """Override fields of what the control plane says of an endpoint or instance."""
        self.ask("set_status", name=name or self.endpoint, override=override)

    def journal(self, *kinds: str) -> list[dict[str, Any]]:
        """Return what it did, of these kinds only if any are named."""
        entries = self.ask("journal")["entries"]
        return [e for e in entries if not kinds or e["kind"] in kinds]

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """Return the requests whose path holds *path*."""
        return [e for e in self.journal("request") if path in e["path"]]

    def clear_journal(self) -> None:
        """Begin a new journal."""
        self.ask("clear_journal")
