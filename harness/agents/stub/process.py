"""A stub as a child process of the tests: start it, ask what it did, end it."""

from __future__ import annotations

import hashlib
import json
import secrets
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from harness.agents.stub.journal import Statement
from harness.agents.stub.plan import StubPlan
from harness.child import ChildProcess
from harness.errors import TargetError

ADMIN_TIMEOUT_S = 30.0
HTTP_OK = 200


class AgentStub(ChildProcess):
    """A stub in a process of its own, so that no client disturbs its timing.

    Attributes:
        plan: What it answers and when.
        base_url: What a client's `base_url` must be.
        token: The bearer token it accepts; it went there through a pipe.
        client_secret: Secret of the plan's service principal, for its OAuth paths.
        ca_pem: The root a client must trust to speak HTTPS with it; else None.
        model: A name such as a real endpoint has.
        scheduling: How the system runs it: realtime, raised or ordinary.
    """

    model = "ka-00000000-endpoint"

    def __init__(
        self, plan: StubPlan | None = None, *, loop: str = "precise", port: int = 0
    ) -> None:
        self.plan = plan or StubPlan()
        self.token = SecretStr(secrets.token_urlsafe(24))
        self.client_secret = SecretStr(secrets.token_urlsafe(24))
        config = {
            "token": self.token.get_secret_value(),
            "client_secret": self.client_secret.get_secret_value(),
            "loop": loop,
            "port": port,
            "plan": self.plan.to_mapping(),
        }
        super().__init__("harness.agents.stub", config, called="the agent stub")
        self.base_url: str = self.ready["base_url"]
        self.scheduling: str = self.ready["scheduling"]
        self.ca_pem: str | None = self.ready.get("ca_pem")

    def __repr__(self) -> str:
        return f"<AgentStub pid={self.pid} {self.plan}>"

    def facts(self) -> dict[str, str | float]:
        """Return what two figures taken with stubs must share to be comparable."""
        facts: dict[str, str | float] = {
            "agent_ttft_ms": self.plan.ttft_s * 1000,
            "agent_itl_ms": self.plan.itl_s * 1000,
            "agent_tokens": self.plan.tokens,
            "agent_scheduling": self.scheduling,
        }
        usual = StubPlan(
            ttft_s=self.plan.ttft_s, itl_s=self.plan.itl_s, tokens=self.plan.tokens
        )
        if self.plan != usual:
            whole = json.dumps(self.plan.to_mapping(), sort_keys=True).encode()
            facts["agent_plan"] = hashlib.sha256(whole).hexdigest()[:12]
        return facts

    def statement(self) -> Statement:
        """Return the stub's account of what it did since the last reset."""
        return Statement.from_mapping(self._administer("GET", "journal"))

    def reset(self) -> None:
        """Begin a new run in the stub's journal."""
        self._administer("POST", "reset")

    def revoke(self) -> None:
        """Let it refuse every token that its OAuth paths have given out so far."""
        self._administer("POST", "revoke")

    def _connection(self, host: str, port: int | None) -> HTTPConnection:
        if self.ca_pem is None:
            return HTTPConnection(host, port, timeout=ADMIN_TIMEOUT_S)
        # The administration is ours on both sides: its certificate may be bad.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return HTTPSConnection(host, port, timeout=ADMIN_TIMEOUT_S, context=context)

    def _administer(self, method: str, action: str) -> dict[str, Any]:
        parts = urlsplit(self.base_url)
        connection = self._connection(parts.hostname or "", parts.port)
        try:
            connection.request(
                method,
                f"/stub/{action}",
                headers={"Authorization": f"Bearer {self.token.get_secret_value()}"},
            )
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            msg = f"the agent stub (pid {self.pid}) does not answer: {error}"
            raise TargetError(msg) from error
        finally:
            connection.close()
        if response.status != HTTP_OK:
            msg = f"the agent stub answered {response.status} to {action}"
            raise TargetError(msg)
        values: dict[str, Any] = json.loads(body)
        return values
