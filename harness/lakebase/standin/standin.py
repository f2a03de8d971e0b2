"""`LakebaseStandin`: a workspace and its Lakebase on this machine, for tests."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from harness.child import ChildProcess
from harness.lakebase.standin.backing import DATABASE
from harness.lakebase.standin.events import Event, read_events
from harness.lakebase.standin.http_faults import HttpFault
from harness.lakebase.standin.plan import HOST, StandinPlan
from harness.postgres.server import ConnectArguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.lakebase.standin.fault_proxy import FaultProxy
    from harness.lakebase.target import LakebaseServer
    from harness.postgres.server import Server
    from harness.settings import Settings


class LakebaseStandin(ChildProcess):
    """A stand-in in a process of its own.

    Args:
        plan: How it behaves; default is one like the service's.
        backing: The Postgres behind it, which stays as it was; None for a control
            plane alone.

    Attributes:
        url: What DATABRICKS_HOST must be.
        port: Port of every host name it tells; a proxy's, where there is one.
        direct_port: Its own port.
        proxy: The fault proxy before it, if there is one.
        root_file: The only certificate authority a client need trust.
        user: Who the workspace token belongs to.
        endpoint: Name of the Autoscaling endpoint that is there from the start.
        instance: Name of the Provisioned instance.
    """

    def __init__(
        self, plan: StandinPlan | None = None, *, backing: Server | None = None
    ) -> None:
        self.plan = plan or StandinPlan()
        self._folder = tempfile.TemporaryDirectory(prefix="lakegauge-standin-")
        config = {
            "plan": self.plan.to_mapping(),
            "backing": dict(backing.connect_arguments()) if backing else None,
        }
        super().__init__("harness.lakebase.standin", config)
        # A name stays; asking would wait for a failover that is being made.
        self._hosts: dict[str, str] = {}
        self.url: str = self.ready["url"]
        self.port: int = self.ready["port"] or 0
        self.direct_port = self.port
        self.proxy: FaultProxy | None = None
        self.root_file = Path(self._folder.name) / "root.crt"
        self.root_file.write_text(self.ready["root"])
        self.user = self.plan.user
        self.endpoint = self.plan.endpoint
        self.instance = self.plan.instance
        self.token = SecretStr(self.plan.token)
        self.client_id = self.plan.client_id
        self.client_secret = SecretStr(self.plan.client_secret)
        self.native_role = self.plan.native_role
        self.native_password = SecretStr(self.plan.native_password)

    def close(self) -> None:
        """End it; safe to call twice."""
        super().close()
        self._folder.cleanup()

    def host(
        self, name: str | None = None, *, replica: bool = False, pooled: bool = False
    ) -> str:
        """Return a host name of an endpoint or instance, by default the endpoint."""
        suffix = ("-ro" if replica else "") + ("-pooler" if pooled else "")
        name = name or self.endpoint
        if name not in self._hosts:
            self._hosts[name] = str(self.stats(name)["hosts"][0])
        uid, dot, domain = self._hosts[name].partition(".")
        return f"{uid}{suffix}{dot}{domain}"

    def connect_arguments(
        self, password: str, *, host: str | None = None, **more: Any
    ) -> ConnectArguments:
        """Return arguments for one `psycopg.connect`, with a token or password.

        Its host names resolve nowhere, so the address is given beside the name.
        """
        tls = {"sslmode": "verify-full", "sslrootcert": str(self.root_file)}
        return ConnectArguments(
            {
                "host": host or self.host(),
                "hostaddr": HOST,
                "port": self.port,
                "user": self.user,
                "password": password,
                "dbname": DATABASE,
                **(tls if self.plan.tls else {"sslmode": "disable"}),
                **more,
            }
        )

    def environment(self) -> dict[str, str]:
        """Return the variables by which the SDK, libpq and the harness find it."""
        plan = self.plan
        return {
            "DATABRICKS_HOST": self.url,
            "DATABRICKS_TOKEN": plan.token,
            "LAKEBASE_ENDPOINT": self.endpoint,
            "LAKEBASE_PORT": str(self.port),
            "LAKEBASE_DATABASE": DATABASE,
            # Its host names resolve nowhere; this is where they are.
            "PGHOSTADDR": HOST,
            "PGSSLROOTCERT": str(self.root_file),
            "LAKEBASE_SSLMODE": "verify-full" if plan.tls else "disable",
        }

    def stats(self, name: str | None = None) -> dict[str, Any]:
        """Return state, size, limits and connections of an endpoint or instance."""
        told: dict[str, Any] = self.ask("stats", name=name or self.endpoint)
        return told

    def suspend(self, name: str | None = None) -> None:
        """Suspend a compute now."""
        self.ask("suspend", name=name or self.endpoint)

    def fail_over(self, name: str | None = None) -> None:
        """Lose the primary, and have another after `failover_s`."""
        self.ask("fail_over", name=name or self.endpoint)

    def resize(self, cu: float, name: str | None = None) -> None:
        """Change the size of a compute, which ends its sessions."""
        self.ask("resize", name=name or self.endpoint, cu=cu)

    def play(
        self, events: Iterable[Event | dict[str, Any]], name: str | None = None
    ) -> None:
        """Begin a list of events now, in place of one that still plays.

        `play([{"at_s": 2, "do": "suspend"}, {"at_s": 4, "do": "fail_over"}])`; the
        compute does them itself, whatever this process is busy with.

        Raises:
            ConfigError: They are not in order, or one is wrong.
        """
        rows = [dataclasses.asdict(event) for event in read_events(events)]
        self.ask("play", name=name or self.endpoint, events=rows)

    def settings(self, **overrides: Any) -> Settings:
        """Return settings that lead here: `settings(lakebase__token_ttl_s=300)`.

        Nothing of the machine's own environment or files is in them.
        """
        from harness.settings import load_settings

        given = {name.replace("__", "."): value for name, value in overrides.items()}
        folder = Path(self._folder.name)
        return load_settings(
            {"target.target": "lakebase", **given},
            environ=self.environment(),
            cwd=folder,
            root=folder,
        )

    def server(
        self, *, replica: bool = False, pooled: bool = False, **overrides: Any
    ) -> LakebaseServer:
        """Return it as the database under test, with tokens minted by the SDK.

        The pooled host takes no tokens: there it is the native role.

        Args:
            replica: The read-only host.
            pooled: The pooled host.
            overrides: Settings; see `settings`.
        """
        from harness.lakebase.target import start_lakebase

        more: dict[str, Any] = {}
        if replica or pooled:
            more["lakebase__host"] = self.host(replica=replica, pooled=pooled)
        if pooled:
            more["lakebase__user"] = self.native_role
            more["lakebase__password"] = self.native_password.get_secret_value()
        settings = self.settings(**more, **overrides)
        root = {"sslrootcert": str(self.root_file)} if self.plan.tls else {}
        return start_lakebase(settings, reach={"hostaddr": HOST, **root})

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
