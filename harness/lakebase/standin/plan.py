"""What a stand-in is like: sizes, times and who may log in."""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError
from harness.lakebase.computes import CU_MAX, CU_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_S = 86_400.0
HOST = "127.0.0.1"
# Reserved for loopback, so a name that escapes to a resolver reaches nobody.
DOMAIN = "database.localhost"
TTL_MIN_S, TTL_MAX_S = 300, 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class StandinPlan:
    """How a stand-in behaves; fixed from its start.

    The service's own times (token lifetimes, idle and lifetime limits, suspension,
    the pooler's queue) are given as the service has them and pass `time_scale`
    times faster. Delays of the machinery (`wake_s`, `failover_s`) are as given.

    Attributes:
        time_scale: Seconds of the service in one second here.
        cu: Compute units at the start; they set the connection limit.
        suspend_after_s: Time without a query until the compute suspends; None never.
        connections_keep_awake: Whether an open connection also prevents suspension
            (unknown of the service, so a choice).
        wake_s: Time from the first login to a suspended compute until it is served.
        failover_s: Time without a primary after a failover or resize.
        idle_timeout_s: Time without traffic until a session is ended.
        lifetime_s: Age at which a session is ended.
        has_replica: Whether there is a readable secondary behind the -ro host.
        pool_size: Server connections of the pooler for one user and database; None
            for nine tenths of the compute's limit.
        pool_queue_s: Longest wait for one of them.
        pool_clients_max: Client connections the pooler takes.
        tls: Whether the front offers, and demands, TLS.
        user: Identity of the workspace token, and its Postgres role.
        project: Name of the project, with branch `production`, endpoint `primary`.
        instance: Name of the Provisioned instance.
        token: Workspace token of `user`.
        client_id: Application id of the service principal, a role of its own.
        client_secret: Its secret.
        native_role: Role with a Postgres password, for the pooled hosts.
        native_password: Its password.
    """

    time_scale: float = 1.0
    cu: float = 1.0
    suspend_after_s: float | None = None
    connections_keep_awake: bool = False
    wake_s: float = 0.3
    failover_s: float = 0.2
    idle_timeout_s: float = DAY_S
    lifetime_s: float = 3 * DAY_S
    has_replica: bool = True
    pool_size: int | None = None
    pool_queue_s: float = 120.0
    pool_clients_max: int = 10_000
    tls: bool = True
    user: str = field(default_factory=lambda: f"u-{secrets.token_hex(4)}@example.com")
    project: str = "shop"
    instance: str = "shop-instance"
    token: str = field(
        default_factory=lambda: f"dapi-{secrets.token_hex(16)}", repr=False
    )
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_secret: str = field(
        default_factory=lambda: f"dose-{secrets.token_hex(16)}", repr=False
    )
    native_role: str = field(default_factory=lambda: f"app_{secrets.token_hex(4)}")
    native_password: str = field(
        default_factory=lambda: secrets.token_urlsafe(18), repr=False
    )

    def __post_init__(self) -> None:
        positive = ("time_scale", "idle_timeout_s", "lifetime_s", "pool_queue_s")
        for name in (*positive, "suspend_after_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"{name} must be > 0, got {value}"
                raise ConfigError(msg)
        for name in ("wake_s", "failover_s"):
            if not getattr(self, name) >= 0:
                msg = f"{name} must be >= 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        if not CU_MIN <= self.cu <= CU_MAX:
            msg = f"cu must be between {CU_MIN} and {CU_MAX:g}, got {self.cu}"
            raise ConfigError(msg)
        if self.pool_size is not None and self.pool_size < 1:
            msg = f"pool_size must be >= 1, got {self.pool_size}"
            raise ConfigError(msg)

    @property
    def endpoint(self) -> str:
        """Resource name of the endpoint that is there from the start."""
        return f"projects/{self.project}/branches/production/endpoints/primary"

    def here_s(self, service_s: float) -> float:
        """Return how long *service_s* of the service take here."""
        return service_s / self.time_scale

    def to_mapping(self) -> dict[str, Any]:
        """Return the plan for JSON; with its secrets, so for a pipe only."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> StandinPlan:
        """Return the plan written as *values*.

        Raises:
            ConfigError: If a name or a value is wrong.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            msg = f"no such setting of a stand-in: {', '.join(unknown)}"
            raise ConfigError(msg)
        return cls(**values)


# Drawn anew for each stand-in, so two runs would never compare.
IDENTITIES = frozenset({"user", "client_id", "native_role", "project", "instance"})


def plan_facts(plan: StandinPlan) -> dict[str, Any]:
    """Return what a report says of a plan: nothing secret, and nobody's name."""
    hidden = {field.name for field in dataclasses.fields(plan) if not field.repr}
    return {
        f"standin_{name}": "none" if value is None else value
        for name, value in dataclasses.asdict(plan).items()
        if name not in hidden | IDENTITIES
    }
