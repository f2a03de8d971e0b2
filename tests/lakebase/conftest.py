"""A control plane over HTTP on loopback, with a real Postgres behind it.

Its tokens are the password of a role: each mint replaces the one before, so a
login proves which token was used, and the server enforces expiry as Lakebase does.
"""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from psycopg import sql
from pydantic import SecretStr

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import CredentialError
from harness.lakebase.credentials import Credential
from harness.lakebase.minting import MintedCredentials
from harness.postgres.connect import connect
from harness.settings import load_settings

ENDPOINT = "projects/shop/branches/production/endpoints/primary"
INSTANCE = "shop-instance"
WORKSPACE_TOKEN = "dapi-canary-workspace-token"


@dataclass
class Fault:
    """An answer other than the right one, to the next request of *path*."""

    path: str
    status: int
    payload: bytes
    headers: dict
    hangs: bool


class ControlPlane:
    """The two credential APIs, the two lookups and the identity."""

    endpoint = ENDPOINT
    instance = INSTANCE
    workspace_token = WORKSPACE_TOKEN

    def __init__(self, postgres, role):
        self.role = role
        self.clock = SYSTEM_CLOCK
        self.host = postgres.connect_arguments()["host"]
        self.lifetime = None
        self.enforce_expiry = False
        self.endpoint_status = {"current_state": "ACTIVE"}
        self.requests = []
        self.tokens = []
        self.faults = []
        self.release = threading.Event()
        self._lock = threading.Lock()
        self._postgres = postgres
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                plane.answer(self, None)

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                plane.answer(self, json.loads(self.rfile.read(length)))

            def log_message(self, *_args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join(timeout=10)

    def fail_next(self, path, *, status, payload=None, headers=None, hangs=False):
        """Give the next request whose path holds *path* another answer."""
        payload = payload or error("CODE", f"the plane says {status}")
        self.faults.append(Fault(path, status, payload, headers or {}, hangs))

    def answer(self, handler, body):
        path = handler.path.partition("?")[0]
        self.requests.append((handler.command, path, body))
        headers = {}
        with self._lock:
            fault = next((f for f in self.faults if f.path in path), None)
            if fault is not None:
                self.faults.remove(fault)
        if fault is not None:
            if fault.hangs:
                self.release.wait(timeout=30)
            status, payload, headers = fault.status, fault.payload, fault.headers
        elif handler.headers["Authorization"] != f"Bearer {WORKSPACE_TOKEN}" and (
            ".well-known" not in path
        ):
            status, payload = 401, error("UNAUTHENTICATED", "invalid access token")
        else:
            status, payload = self.route(path, body)
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(payload)))
        handler.end_headers()
        handler.wfile.write(payload)

    def route(self, path, body):  # noqa: PLR0911 - one return per route
        if path == "/.well-known/databricks-config":
            return 200, b"{}"
        if path == "/api/2.0/preview/scim/v2/Me":
            return 200, encoded(userName=self.role)
        if path == f"/api/2.0/postgres/{ENDPOINT}":
            status = {"hosts": {"host": self.host}, **self.endpoint_status}
            return 200, encoded(name=ENDPOINT, status=status)
        if path == f"/api/2.0/database/instances/{INSTANCE}":
            return 200, encoded(
                name=INSTANCE, state="AVAILABLE", read_write_dns=self.host
            )
        if path == "/api/2.0/postgres/credentials" and body["endpoint"] == ENDPOINT:
            ttl_s = int(body["ttl"].removesuffix("s"))
            token, expires_at = self.mint(timedelta(seconds=ttl_s))
            return 200, encoded(token=token, expire_time=expires_at)
        if path == "/api/2.0/database/credentials" and (
            body["instance_names"] == [INSTANCE]
        ):
            token, expires_at = self.mint(timedelta(hours=1))
            return 200, encoded(token=token, expiration_time=expires_at)
        return 404, error("RESOURCE_DOES_NOT_EXIST", "no such resource")

    def mint(self, lifetime):
        """Make a new token the role's password and return it with its expiry."""
        expires_at = self.clock.now() + (self.lifetime or lifetime)
        token = f"canary-token-{secrets.token_hex(12)}"
        valid_until = expires_at.isoformat() if self.enforce_expiry else "infinity"
        with self._lock, connect(self._postgres.connect_arguments()) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {} VALID UNTIL {}").format(
                    sql.Identifier(self.role), sql.Literal(token), valid_until
                )
            )
            self.tokens.append(token)
        return token, expires_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    @property
    def mints(self):
        return [body for _, path, body in self.requests if path.endswith("credentials")]


def encoded(**body):
    return json.dumps(body).encode()


def error(code, message):
    return encoded(error_code=code, message=message)


@pytest.fixture
def plane(postgres):
    """A control plane whose identity is a role with a database of its own.

    In the database of other tests a schema may belong to another role.
    """
    role = f"svc-{secrets.token_hex(4)}@example.com"
    identifier = sql.Identifier(role)
    with connect(postgres.connect_arguments()) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
        create = sql.SQL("CREATE DATABASE {} OWNER {}")
        admin.execute(create.format(identifier, identifier))
        with ControlPlane(postgres, role).running() as plane:
            plane.database = role
            yield plane
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
        admin.execute(sql.SQL("DROP ROLE {}").format(identifier))


@pytest.fixture(params=["endpoint", "instance"])
def product(request):
    return request.param


@pytest.fixture
def lakebase_settings(plane, postgres, product, tmp_path):
    """Return a function that makes settings for the control plane."""
    arguments = postgres.connect_arguments()

    def make(**overrides):
        name = (
            {"lakebase.endpoint": ENDPOINT}
            if product == "endpoint"
            else {"lakebase.instance_name": INSTANCE}
        )
        return load_settings(
            {
                "target.target": "lakebase",
                "databricks.workspace_url": plane.url,
                "databricks.personal_access_token": WORKSPACE_TOKEN,
                "lakebase.port": arguments["port"],
                "lakebase.database": plane.database,
                **name,
                **{key.replace("__", "."): value for key, value in overrides.items()},
            },
            environ={},
            cwd=tmp_path,
            root=tmp_path,
        )

    return make


class Mint:
    """A service whose tokens live for a given time, and that may be down."""

    def __init__(self, clock, lifetime_s=3600.0):
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.calls = 0
        self.down = False

    def __call__(self):
        self.calls += 1
        if self.down:
            raise CredentialError("the workspace is down")
        now = self.clock.now()
        return Credential(
            token=SecretStr(f"token-{self.calls}"),
            minted_at=now,
            expires_at=now + timedelta(seconds=self.lifetime_s),
        )


class NoJitter:
    """Jitter at its least: refresh as late, and pause as short, as may be."""

    def random(self):
        return 0.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture(scope="session")
def make_mint():
    """Return a function: a service that mints `token-1`, `token-2` and so on."""
    return Mint


@pytest.fixture
def mint(clock):
    return Mint(clock)


@pytest.fixture
def no_jitter():
    return NoJitter()


@pytest.fixture
def credentials(mint, clock, no_jitter):
    return MintedCredentials(mint, clock=clock, random=no_jitter)


@pytest.fixture
def token():
    """Return a function: the text of the token that credentials give out."""
    return lambda credentials: credentials.credential().token.get_secret_value()
