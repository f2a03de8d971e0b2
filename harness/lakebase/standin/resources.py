"""Projects, branches, endpoints and instances: what exists, in the service's JSON."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.standin.compute import Compute, State

if TYPE_CHECKING:
    from harness.clock import Clock
    from harness.lakebase.standin.compute import Route
    from harness.lakebase.standin.plan import StandinPlan

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
CU_OF_CAPACITY = {"CU_1": 1.0, "CU_2": 2.0, "CU_4": 4.0, "CU_8": 8.0}
DEFAULT_BRANCH = "production"


class RefusedError(Exception):
    """A request that the control plane refuses, with the status it answers."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(kw_only=True)
class Record:
    """One named resource.

    Attributes:
        name: Full resource name, or an instance's name.
        created_at: When it was made.
        spec: What was asked for.
        compute: What it runs on, for endpoints and instances.
        override: Fields of the status that a test has set.
    """

    name: str
    created_at: datetime
    spec: dict[str, Any] = field(default_factory=dict)
    compute: Compute | None = None
    override: dict[str, Any] = field(default_factory=dict)


class Resources:
    """What exists in the workspace.

    Args:
        plan: What is there from the start.
        namespace: Prefix of the databases of the first branch.
        clock: Says when things were made.
    """

    def __init__(
        self, plan: StandinPlan, *, namespace: str, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._namespace = namespace
        self.projects: dict[str, Record] = {}
        self.branches: dict[str, Record] = {}
        self.endpoints: dict[str, Record] = {}
        self.instances: dict[str, Record] = {}
        self.routes: dict[str, Route] = {}
        self.computes: dict[str, Compute] = {}
        self.add_project(plan.project, {})
        self.add_instance(plan.instance, {})

    def compute_of(self, name: str) -> Compute:
        """Return what an endpoint or instance runs on.

        Raises:
            RefusedError: There is none of that name.
        """
        record = self.endpoints.get(name) or self.instances.get(name)
        if record is None or record.compute is None:
            raise RefusedError(404, f"{name} does not exist")
        return record.compute

    def add_project(self, project_id: str, spec: dict[str, Any]) -> Record:
        """Make a project with its first branch and endpoint."""
        _check_name(project_id)
        name = f"projects/{project_id}"
        record = self._add(self.projects, name, spec)
        self.add_branch(name, DEFAULT_BRANCH, {})
        self.add_endpoint(f"{name}/branches/{DEFAULT_BRANCH}", "primary", {})
        return record

    def add_branch(self, project: str, branch_id: str, spec: dict[str, Any]) -> Record:
        """Make a branch, without data and without endpoint."""
        _check_name(branch_id)
        if project not in self.projects:
            raise RefusedError(404, f"{project} does not exist")
        return self._add(self.branches, f"{project}/branches/{branch_id}", spec)

    def add_endpoint(
        self, branch: str, endpoint_id: str, spec: dict[str, Any]
    ) -> Record:
        """Make an endpoint of a branch.

        Raises:
            RefusedError: It exists, the branch does not, or the spec is wrong.
        """
        _check_name(endpoint_id)
        if branch not in self.branches:
            raise RefusedError(404, f"{branch} does not exist")
        low = float(spec.get("autoscaling_limit_min_cu", self._plan.cu))
        high = float(spec.get("autoscaling_limit_max_cu", low))
        check_cu(low, high)
        record = self._add(self.endpoints, f"{branch}/endpoints/{endpoint_id}", spec)
        spec |= {"autoscaling_limit_min_cu": low, "autoscaling_limit_max_cu": high}
        record.compute = self._add_compute(
            f"ep-{secrets.token_hex(4)}",
            cu=low,
            namespace=self._namespace_of(branch),
            pooled=True,
        )
        return record

    def add_instance(self, name: str, spec: dict[str, Any]) -> Record:
        """Make a Provisioned instance.

        Raises:
            RefusedError: It exists or its capacity is unknown.
        """
        _check_name(name)
        capacity = spec.get("capacity")
        if capacity is not None and capacity not in CU_OF_CAPACITY:
            raise RefusedError(400, f"capacity must be one of {[*CU_OF_CAPACITY]}")
        record = self._add(self.instances, name, spec)
        first = name == self._plan.instance
        record.compute = self._add_compute(
            f"instance-{secrets.token_hex(6)}",
            cu=CU_OF_CAPACITY[capacity] if capacity else self._plan.cu,
            namespace=self._namespace + ("" if first else f"{name}_"),
            pooled=False,
        )
        return record

    def remove(self, name: str) -> None:
        """Remove an endpoint or instance; its host names lead nowhere from now on."""
        compute = self.compute_of(name)
        for host in compute.routes():
            self.routes.pop(host, None)
        compute.state = State.DISABLED
        del self.computes[compute.uid]
        self.endpoints.pop(name, None)
        self.instances.pop(name, None)

    def project_json(self, record: Record) -> dict[str, Any]:
        """Return a project as the service shows it."""
        return {
            **_head(record),
            "uid": _uid(record.name),
            "status": {
                "display_name": record.spec.get("display_name", record.name),
                "default_branch": f"{record.name}/branches/{DEFAULT_BRANCH}",
                "pg_version": 17,
                "owner": self._plan.user,
                **record.override,
            },
        }

    def branch_json(self, record: Record) -> dict[str, Any]:
        """Return a branch as the service shows it."""
        default = record.name.endswith(f"/{DEFAULT_BRANCH}")
        return {
            **_head(record),
            "parent": record.name.rpartition("/branches/")[0],
            "uid": _uid(record.name),
            "status": {
                "branch_id": record.name.rpartition("/")[2],
                "current_state": "READY",
                "default": default,
                **record.override,
            },
        }

    def endpoint_json(self, record: Record) -> dict[str, Any]:
        """Return an endpoint as the service shows it."""
        compute = self.compute_of(record.name)
        status: dict[str, Any] = {
            "endpoint_id": record.name.rpartition("/")[2],
            "endpoint_type": record.spec.get(
                "endpoint_type", "ENDPOINT_TYPE_READ_WRITE"
            ),
            "current_state": compute.state.value[0],
            "disabled": compute.state is State.DISABLED,
            "autoscaling_limit_min_cu": record.spec["autoscaling_limit_min_cu"],
            "autoscaling_limit_max_cu": record.spec["autoscaling_limit_max_cu"],
            "hosts": {
                "host": compute.host(),
                "read_write_pooled_host": compute.host(pooled=True),
            },
        }
        if compute.state in {State.WAKING, State.FAILING_OVER, State.RESIZING}:
            status["pending_state"] = State.ACTIVE.value[0]
        if self._plan.suspend_after_s is not None:
            duration = f"{self._plan.suspend_after_s:g}s"
            status["suspend_timeout_duration"] = duration
        if compute.has_replica:
            status["group"] = {"min": 2, "max": 2, "enable_readable_secondaries": True}
            status["hosts"] |= {
                "read_only_host": compute.host(replica=True),
                "read_only_pooled_host": compute.host(replica=True, pooled=True),
            }
        return {
            **_head(record),
            "uid": compute.uid,
            "parent": record.name.rpartition("/endpoints/")[0],
            "status": status | record.override,
        }

    def instance_json(self, record: Record) -> dict[str, Any]:
        """Return an instance as the service shows it."""
        compute = self.compute_of(record.name)
        capacities = {cu: name for name, cu in CU_OF_CAPACITY.items()}
        shown = {
            "name": record.name,
            "uid": compute.uid,
            "creation_time": stamp(record.created_at),
            "creator": self._plan.user,
            "state": compute.state.value[1].strip(),
            "capacity": record.spec.get("capacity", capacities.get(compute.cu, "CU_1")),
            "pg_version": "PG_VERSION_17",
            "node_count": 2 if compute.has_replica else 1,
            "read_write_dns": compute.host(),
        }
        if compute.has_replica:
            shown["read_only_dns"] = compute.host(replica=True)
            shown["enable_readable_secondaries"] = True
        return shown | record.override

    def _add(self, table: dict[str, Record], name: str, spec: dict[str, Any]) -> Record:
        if name in table:
            raise RefusedError(409, f"{name} already exists")
        table[name] = Record(name=name, created_at=self._clock.now(), spec=spec)
        return table[name]

    def _add_compute(
        self, uid: str, *, cu: float, namespace: str, pooled: bool
    ) -> Compute:
        compute = Compute(
            uid=uid,
            cu=cu,
            namespace=namespace,
            has_replica=self._plan.has_replica,
            pooled=pooled,
        )
        self.computes[uid] = compute
        self.routes |= compute.routes()
        return compute

    def _namespace_of(self, branch: str) -> str:
        if branch == f"projects/{self._plan.project}/branches/{DEFAULT_BRANCH}":
            return self._namespace
        _, project, _, branch_id = branch.split("/")
        return f"{self._namespace}{project}_{branch_id}_"


def stamp(when: datetime) -> str:
    """Return a time as the service writes it."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def expiry(clock: Clock, life_s: float) -> str:
    """Return the time *life_s* from now as the service writes it."""
    return stamp(clock.now() + timedelta(seconds=life_s))


def _head(record: Record) -> dict[str, Any]:
    return {"name": record.name, "create_time": stamp(record.created_at)}


def _uid(name: str) -> str:
    return name.replace("/", "-")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise RefusedError(
            400,
            f"{name!r} must be 1 to 63 characters: a lowercase letter, then lowercase "
            "letters, digits and hyphens",
        )


def check_cu(low: float, high: float) -> None:
    """Check the limits of an endpoint.

    Raises:
        RefusedError: The service would not take them.
    """
    if not 0.5 <= low <= high <= 64 or high - low > 16:  # noqa: PLR2004 - the service's
        raise RefusedError(
            400,
            f"autoscaling limits must be 0.5 <= min <= max <= 64, max - min <= 16; "
            f"got {low:g} and {high:g}",
        )
