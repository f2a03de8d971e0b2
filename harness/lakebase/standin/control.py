"""The control plane: the routes that databricks-sdk calls."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from harness.lakebase.standin.http_faults import HttpFaults, error_body
from harness.lakebase.standin.http_server import Request, Response
from harness.lakebase.standin.plan import TTL_MAX_S, TTL_MIN_S
from harness.lakebase.standin.resources import (
    CU_OF_CAPACITY,
    RefusedError,
    check_cu,
    expiry,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from harness.clock import Clock
    from harness.lakebase.standin.compute import Compute
    from harness.lakebase.standin.journal import Journal
    from harness.lakebase.standin.plan import StandinPlan
    from harness.lakebase.standin.resources import Record, Resources
    from harness.lakebase.standin.tokens import Tokens

    Answer = dict[str, Any]
    Handler = Callable[[Request, str, str], Awaitable[Answer]]
    Resize = Callable[[Compute, float], Awaitable[None]]

POSTGRES, DATABASE = "/api/2.0/postgres/", "/api/2.0/database/"
PROJECT = "projects/[^/]+"
BRANCH = f"{PROJECT}/branches/[^/]+"
ENDPOINT = f"{BRANCH}/endpoints/[^/]+"
ROLE = f"{BRANCH}/roles/[^/]+"


class ControlPlane:
    """Answers the SDK's requests.

    Args:
        plan: Who may ask.
        resources: What exists.
        tokens: Where tokens come from.
        journal: Where each request is noted.
        clock: Tells when tokens expire.
        resize: Called when a compute is to get another size.
    """

    def __init__(
        self,
        *,
        plan: StandinPlan,
        resources: Resources,
        tokens: Tokens,
        journal: Journal,
        clock: Clock,
        resize: Resize,
    ) -> None:
        self.faults = HttpFaults()
        self.url = ""
        self.life_s: float | None = None
        self.expires_ahead_s = 0.0
        self._plan = plan
        self._resources = resources
        self._tokens = tokens
        self._journal = journal
        self._clock = clock
        self._resize = resize
        self._never = asyncio.Event()
        self._routes = self._table()

    async def answer(self, request: Request) -> Response:
        """Answer one request, or fail it as the faults in force say."""
        fault = self.faults.next_for(request.path, now_s=self._journal.elapsed_s())
        facts: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "body": _without_secrets(request.body),
        }
        if fault is not None and fault.hangs:
            self._journal.note("request", **facts, status=None, fault="hangs")
            await self._never.wait()
        if fault is not None and fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault is None or fault.status is None:
            status, body, headers = *await self._right_answer(request), {}
        else:
            status, headers = fault.status, fault.headers
            text = fault.body
            body = text if text is not None else error_body(status, "told to fail")
        told = {} if fault is None else {"fault": f"status {fault.status}"}
        self._journal.note("request", **facts, status=status, **told)
        encoded = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return Response(status=status, body=encoded, headers=headers)

    async def _right_answer(self, request: Request) -> tuple[int, Any]:
        try:
            if request.path in PUBLIC:
                return 200, await PUBLIC[request.path](self, request)
            user = self._authenticate(request)
            for method, pattern, handler in self._routes:
                match = pattern.fullmatch(request.path)
                if match and method == request.method:
                    name = match.groupdict().get("name", "")
                    return 200, await handler(request, name, user)
            what = f"{request.method} {request.path}"
            return 404, error_body(404, f"no such thing to ask for: {what}")
        except RefusedError as error:
            body = error_body(error.status, str(error))
            if request.path in PUBLIC:
                # OAuth has its own words for a refusal.
                body = {"error": "invalid_client", "error_description": str(error)}
            return error.status, body

    def _authenticate(self, request: Request) -> str:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        user = self._tokens.identity(bearer) if scheme == "Bearer" else None
        if user is None:
            raise RefusedError(401, "invalid access token")
        return user

    def _table(self) -> list[tuple[str, re.Pattern[str], Handler]]:
        resources = self._resources
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/api/2.0/preview/scim/v2/Me", self._me),
            ("POST", f"{POSTGRES}credentials", self._mint_for_endpoint),
            ("POST", f"{DATABASE}credentials", self._mint_for_instances),
            ("GET", f"{POSTGRES}(?P<name>.+/operations/[^/]+)", self._operation),
            ("POST", f"{POSTGRES}(?P<name>{ROLE})/password", self._reveal),
            ("POST", f"{POSTGRES}projects", self._add_project),
            ("POST", f"{POSTGRES}(?P<name>{PROJECT})/branches", self._add_branch),
            ("POST", f"{POSTGRES}(?P<name>{BRANCH})/endpoints", self._add_endpoint),
            ("PATCH", f"{POSTGRES}(?P<name>{ENDPOINT})", self._resize_endpoint),
            ("DELETE", f"{POSTGRES}(?P<name>{ENDPOINT})", self._remove_endpoint),
            ("POST", f"{DATABASE}instances", self._add_instance),
            ("PATCH", f"{DATABASE}instances/(?P<name>[^/]+)", self._resize_instance),
            ("DELETE", f"{DATABASE}instances/(?P<name>[^/]+)", self._remove_instance),
        ]
        shown: dict[str, tuple[str, dict[str, Record], Any]] = {
            PROJECT: ("projects", resources.projects, resources.project_json),
            BRANCH: ("branches", resources.branches, resources.branch_json),
            ENDPOINT: ("endpoints", resources.endpoints, resources.endpoint_json),
        }
        for pattern, (key, table, to_json) in shown.items():
            folder = pattern.removesuffix("/[^/]+")
            routes += [
                ("GET", f"{POSTGRES}(?P<name>{folder})", _lister(key, table, to_json)),
                ("GET", f"{POSTGRES}(?P<name>{pattern})", _getter(table, to_json)),
            ]
        instances, to_json = resources.instances, resources.instance_json
        one = f"{DATABASE}instances/(?P<name>[^/]+)"
        routes += [
            (
                "GET",
                f"{DATABASE}instances",
                _lister("database_instances", instances, to_json),
            ),
            ("GET", one, _getter(instances, to_json)),
        ]
        return [(method, re.compile(path), handler) for method, path, handler in routes]

    async def _me(self, _request: Request, _name: str, user: str) -> Answer:
        return {"id": "1", "userName": user, "active": True}

    async def _mint_for_endpoint(
        self, request: Request, _name: str, user: str
    ) -> Answer:
        compute = self._resources.compute_of(request.body.get("endpoint", ""))
        life_s = self._life_s(_ttl_s(request.body, self._clock))
        token = self._tokens.mint(
            user, life_s=life_s, computes=frozenset({compute.uid})
        )
        return {"token": token, "expire_time": self._expiry(life_s)}

    async def _mint_for_instances(
        self, request: Request, _name: str, user: str
    ) -> Answer:
        names = request.body.get("instance_names") or []
        if not names:
            raise RefusedError(400, "instance_names or claims must be given")
        computes = frozenset(self._resources.compute_of(n).uid for n in names)
        life_s = self._life_s(TTL_MAX_S)
        token = self._tokens.mint(user, life_s=life_s, computes=computes)
        return {"token": token, "expiration_time": self._expiry(life_s)}

    def _life_s(self, ttl_s: float) -> float:
        return self.life_s if self.life_s is not None else self._plan.here_s(ttl_s)

    def _expiry(self, life_s: float) -> str:
        return expiry(self._clock, life_s + self.expires_ahead_s)

    async def _operation(self, _request: Request, name: str, _user: str) -> Answer:
        owner = name.partition("/operations/")[0]
        resources = self._resources
        for table, shown in (
            (resources.endpoints, resources.endpoint_json),
            (resources.branches, resources.branch_json),
            (resources.projects, resources.project_json),
        ):
            if owner in table:
                return {"name": name, "done": True, "response": shown(table[owner])}
        return {"name": name, "done": True, "response": {"name": owner}}

    async def _reveal(self, _request: Request, name: str, _user: str) -> Answer:
        if name.rpartition("/")[2] != self._plan.native_role.replace("_", "-"):
            raise RefusedError(404, f"{name} does not exist")
        return {"password": self._plan.native_password}

    async def _add_project(self, request: Request, _name: str, _user: str) -> Answer:
        record = self._resources.add_project(
            request.query.get("project_id", ""), request.body.get("spec", {})
        )
        return _begun(record)

    async def _add_branch(self, request: Request, name: str, _user: str) -> Answer:
        record = self._resources.add_branch(
            name, request.query.get("branch_id", ""), request.body.get("spec", {})
        )
        return _begun(record)

    async def _add_endpoint(self, request: Request, name: str, _user: str) -> Answer:
        record = self._resources.add_endpoint(
            name, request.query.get("endpoint_id", ""), request.body.get("spec", {})
        )
        return _begun(record)

    async def _resize_endpoint(self, request: Request, name: str, _user: str) -> Answer:
        compute = self._resources.compute_of(name)
        record, spec = self._resources.endpoints[name], request.body.get("spec", {})
        sizes = {
            key: spec.get(key, record.spec[key])
            for key in ("autoscaling_limit_min_cu", "autoscaling_limit_max_cu")
        }
        low, high = sizes.values()
        check_cu(low, high)
        record.spec |= sizes
        if not low <= compute.cu <= high:
            await self._resize(compute, min(max(compute.cu, low), high))
        return _begun(record)

    async def _remove_endpoint(
        self, _request: Request, name: str, _user: str
    ) -> Answer:
        self._resources.remove(name)
        return {"name": f"{name}/operations/{uuid.uuid4()}", "done": True}

    async def _add_instance(self, request: Request, _name: str, _user: str) -> Answer:
        spec = request.body
        record = self._resources.add_instance(str(spec.get("name", "")), spec)
        return self._resources.instance_json(record)

    async def _resize_instance(self, request: Request, name: str, _user: str) -> Answer:
        compute = self._resources.compute_of(name)
        record, capacity = self._resources.instances[name], request.body.get("capacity")
        if capacity is not None:
            if capacity not in CU_OF_CAPACITY:
                raise RefusedError(400, f"capacity must be one of {[*CU_OF_CAPACITY]}")
            record.spec["capacity"] = capacity
            await self._resize(compute, CU_OF_CAPACITY[capacity])
        return self._resources.instance_json(record)

    async def _remove_instance(
        self, _request: Request, name: str, _user: str
    ) -> Answer:
        self._resources.remove(name)
        return {}

    async def discovery(self, _request: Request) -> Answer:
        """Say where the workspace's OpenID Connect is."""
        return {"oidc_endpoint": f"{self.url}/oidc"}

    async def oidc(self, _request: Request) -> Answer:
        """Say where access tokens are had."""
        return {
            "authorization_endpoint": f"{self.url}/oidc/v1/authorize",
            "token_endpoint": f"{self.url}/oidc/v1/token",
        }

    async def access_token(self, request: Request) -> Answer:
        """Exchange a service principal's secret for an access token."""
        client_id = str(request.body.get("client_id", ""))
        secret = str(request.body.get("client_secret", ""))
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            try:
                text = base64.b64decode(encoded).decode()
            except (binascii.Error, UnicodeDecodeError):
                text = ""
            client_id, _, secret = text.partition(":")
        exchanged = self._tokens.exchange(client_id, secret)
        if exchanged is None:
            raise RefusedError(401, "client authentication failed")
        token, life_s = exchanged
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": max(1, int(life_s)),
        }


PUBLIC: dict[str, Callable[[ControlPlane, Request], Awaitable[Answer]]] = {
    "/.well-known/databricks-config": ControlPlane.discovery,
    "/oidc/.well-known/oauth-authorization-server": ControlPlane.oidc,
    "/oidc/v1/token": ControlPlane.access_token,
}


def _lister(key: str, table: dict[str, Record], shown: Any) -> Handler:
    async def answer(request: Request, name: str, _user: str) -> Answer:
        # "projects/p/branches" lists what is called "projects/p/branches/...".
        records = [r for n, r in table.items() if not name or n.startswith(f"{name}/")]
        size = int(request.query.get("page_size") or 0) or len(records) or 1
        start = int(request.query.get("page_token") or 0)
        page: Answer = {key: [shown(r) for r in records[start : start + size]]}
        if start + size < len(records):
            page["next_page_token"] = str(start + size)
        return page

    return answer


def _getter(table: dict[str, Record], shown: Any) -> Handler:
    async def answer(_request: Request, name: str, _user: str) -> Answer:
        if name not in table:
            raise RefusedError(404, f"{name} does not exist")
        found: Answer = shown(table[name])
        return found

    return answer


def _begun(record: Record) -> Answer:
    return {"name": f"{record.name}/operations/{uuid.uuid4()}", "done": False}


def _ttl_s(body: Answer, clock: Clock) -> float:
    """Return the lifetime asked for, in the service's seconds."""
    ttl_s: float = TTL_MAX_S
    try:
        if "ttl" in body:
            ttl_s = float(str(body["ttl"]).removesuffix("s"))
        elif "expire_time" in body:
            ends_at = datetime.fromisoformat(str(body["expire_time"]))
            ttl_s = (ends_at - clock.now()).total_seconds()
    except (ValueError, TypeError):
        raise RefusedError(400, "ttl or expire_time is not understood") from None
    if not TTL_MIN_S - 1 < ttl_s <= TTL_MAX_S:
        raise RefusedError(
            400, f"ttl must be {TTL_MIN_S} to {TTL_MAX_S} s, got {ttl_s:g}"
        )
    return ttl_s


def _without_secrets(body: Answer) -> Answer:
    return {
        k: "***" if "secret" in k or "assertion" in k else v for k, v in body.items()
    }
