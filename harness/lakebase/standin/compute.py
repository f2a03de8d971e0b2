"""A compute: what an endpoint or an instance runs on, and the state it is in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from harness.lakebase.computes import max_connections_of
from harness.lakebase.standin.plan import DOMAIN

REPLICA_SUFFIX, POOLER_SUFFIX = "-ro", "-pooler"


class State(Enum):
    """What a compute is doing; its value is (endpoint's word, instance's word)."""

    ACTIVE = ("ACTIVE", "AVAILABLE")
    SUSPENDED = ("IDLE", "STOPPED")
    WAKING = ("INIT", "STARTING")
    FAILING_OVER = ("DEGRADED", "FAILING_OVER")
    RESIZING = ("DEGRADED", "UPDATING")
    DISABLED = ("IDLE", "STOPPED ")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a host name leads.

    Attributes:
        uid: The compute.
        replica: To a readable secondary.
        pooled: Through the pooler.
    """

    uid: str
    replica: bool = False
    pooled: bool = False


@dataclass(kw_only=True)
class Compute:
    """One compute.

    Attributes:
        uid: Its name; host names begin with it.
        cu: Compute units.
        namespace: What its databases are called by in the backing Postgres.
        has_replica: Whether the -ro host leads anywhere.
        state: What it is doing.
        pooled: Whether it has a pooler, which only endpoints do.
    """

    uid: str
    cu: float
    namespace: str
    has_replica: bool
    pooled: bool
    state: State = State.ACTIVE
    wakes: int = field(default=0)

    @property
    def max_connections(self) -> int:
        """How many connections it takes."""
        return max_connections_of(self.cu)

    def host(self, *, replica: bool = False, pooled: bool = False) -> str:
        """Return a host name that leads here."""
        suffix = (REPLICA_SUFFIX if replica else "") + (POOLER_SUFFIX if pooled else "")
        return f"{self.uid}{suffix}.{DOMAIN}"

    def routes(self) -> dict[str, Route]:
        """Return every host name that leads here."""
        return {
            self.host(replica=replica, pooled=pooled): Route(self.uid, replica, pooled)
            for replica in ((False, True) if self.has_replica else (False,))
            for pooled in ((False, True) if self.pooled else (False,))
        }
