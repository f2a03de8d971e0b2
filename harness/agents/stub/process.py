"""A stub as a child process of the tests: start it, ask what it did, end it."""

from __future__ import annotations

import hashlib
import json
import secrets
import select
import ssl
import subprocess
import sys
import tempfile
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from harness.agents.stub.journal import Statement
from harness.agents.stub.plan import StubPlan
from harness.errors import TargetError

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 5.0
ADMIN_TIMEOUT_S = 30.0
HTTP_OK = 200


class AgentStub:
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
        from harness.settings import child_environment

        self._loop = loop
        self._port = port
        self.plan = plan or StubPlan()
        self.token = SecretStr(secrets.token_urlsafe(24))
        self.client_secret = SecretStr(secrets.token_urlsafe(24))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.agents.stub"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=child_environment(),
            # Ctrl-C is for the tests; the stub ends when its input does.
            start_new_session=True,
        )
        try:
            ready = self._start()
            self.base_url: str = ready["base_url"]
            self.scheduling: str = ready["scheduling"]
            self.ca_pem: str | None = ready.get("ca_pem")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the stub."""
        return self._process.pid

    def __repr__(self) -> str:
        return f"<AgentStub pid={self.pid} {self.plan}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

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

    def close(self) -> None:
        """End the stub; safe to call twice."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # It may have ended before it had read everything.
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def _start(self) -> dict[str, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            msg = "the stub has no pipes"
            raise TargetError(msg)
        config = {
            "token": self.token.get_secret_value(),
            "client_secret": self.client_secret.get_secret_value(),
            "loop": self._loop,
            "port": self._port,
            "plan": self.plan.to_mapping(),
        }
        ready = b""
        try:
            stdin.write(json.dumps(config).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it ended; why is in its output, read below
        else:
            if select.select([stdout], [], [], START_TIMEOUT_S)[0]:
                ready = stdout.readline()
        if not ready:
            self._errors.seek(0)
            told = self._errors.read().decode("utf-8", "replace").strip()
            msg = (
                f"the agent stub did not start within {START_TIMEOUT_S:g} s: "
                f"{told[-1000:] or 'it said nothing'}"
            )
            raise TargetError(msg)
        told_at_start: dict[str, str] = json.loads(ready)
        return told_at_start

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
