"""A client of Knowledge Assistant serving endpoints."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from harness.agents.assembly import AnswerBuilder
from harness.agents.errors import (
    AgentBadResponseError,
    AgentCallError,
    AgentPayloadTooLargeError,
    AgentStreamTruncatedError,
    AgentTimeoutError,
    Attempt,
    error_from_response,
)
from harness.agents.retry import RetryPolicy, call_with_retries
from harness.agents.sse import FrameTooLargeError, SseParser
from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

    from harness.agents.answer import Answer
    from harness.agents.transport import RawResponse
    from harness.clock import Clock
    from harness.settings import AgentSettings

# The platform's limit for agent endpoints; larger bodies are refused anyway.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
ERROR_BODY_BYTES_MAX = 64 * 1024
# After the end marker only the closing bytes are due; a server that keeps them
# back costs the connection, not the answer.
CLOSING_TIMEOUT_S = 1.0
HTTP_OK = 200
_REQUEST_ID_HEADERS = ("x-databricks-request-id", "x-request-id")


class AgentClient:
    """Asks a serving endpoint, over connections kept open; safe to share by threads.

    Args:
        base_url: `https://<workspace>/serving-endpoints`.
        token: Bearer token; reaches nothing but the Authorization header.
        model: Name of the serving endpoint.
        timeout_s: Total deadline of a call, retries and waits included.
        max_retries: Requests after the first; 0, for benchmarks, sends one.
        retry_delay_s: Cap of the back-off between retries.
        clock: Source of every timestamp.
        random: Source of the back-off's jitter.

    Raises:
        ConfigError: If *base_url* cannot be used, or httpx2 is not installed.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: SecretStr,
        model: str,
        timeout_s: float = 60.0,
        max_retries: int = 0,
        retry_delay_s: float = 30.0,
        clock: Clock = SYSTEM_CLOCK,
        random: Random | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        self.model = model
        self.timeout_s = timeout_s
        self.policy = RetryPolicy(max_retries=max_retries, delay_max_s=retry_delay_s)
        self._token = token
        self._clock = clock
        self._random = random or SystemRandom()
        try:
            from harness.agents.transport import Transport
        except ModuleNotFoundError as error:
            msg = (
                f"the agent client needs {error.name}: "
                "run `pip install 'lakegauge[agents]'`"
            )
            raise ConfigError(msg) from error
        self._transport = Transport(
            base_url=self.base_url,
            authorize=lambda: f"Bearer {token.get_secret_value()}",
            clock=clock,
        )

    @classmethod
    def from_settings(
        cls, settings: AgentSettings, *, max_retries: int | None = None
    ) -> Self:
        """Return a client of the endpoint that the settings name.

        Args:
            settings: The `agent` part of the settings.
            max_retries: Overrides the setting; benchmarks pass 0.

        Raises:
            ConfigError: If the token, the URL or the model is not set.
        """
        token, base_url, model = require_endpoint(settings)
        return cls(
            base_url=base_url,
            token=token,
            model=model,
            timeout_s=settings.timeout_s,
            max_retries=settings.max_retries if max_retries is None else max_retries,
            retry_delay_s=settings.retry_delay_s,
        )

    def __repr__(self) -> str:
        return f"<AgentClient {self.model!r} at {self.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def ask(
        self, question: str | Sequence[Mapping[str, Any]], *, stream: bool = True
    ) -> Answer:
        """Ask and return the whole answer.

        Args:
            question: A question, or `input` items (a conversation) as they are.
            stream: Whether to have the answer streamed, with the time of every
                token; otherwise it comes in one body.

        Raises:
            AgentCallError: If there is no usable answer; see `harness.agents.errors`.
        """
        items = (
            [{"role": "user", "content": question}]
            if isinstance(question, str)
            else list(question)
        )
        body = json.dumps(
            {"model": self.model, "input": items, "stream": stream},
            separators=(",", ":"),
        ).encode()
        if len(body) > REQUEST_BYTES_MAX:
            msg = (
                f"the question is {len(body)} bytes; "
                f"agent endpoints accept {REQUEST_BYTES_MAX}"
            )
            raise AgentPayloadTooLargeError(msg)
        deadline_ns = self._clock.monotonic_ns() + round(self.timeout_s * NS_PER_S)
        return call_with_retries(
            lambda failed: self._attempt(
                body, deadline_ns=deadline_ns, stream=stream, failed=failed
            ),
            policy=self.policy,
            deadline_ns=deadline_ns,
            clock=self._clock,
            random=self._random,
        )

    def _attempt(
        self, body: bytes, *, deadline_ns: int, stream: bool, failed: list[Attempt]
    ) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if stream else "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "lakegauge",
        }
        builder = AnswerBuilder(sent_ns=self._clock.monotonic_ns())
        try:
            with self._transport.post(
                "/responses", headers=headers, body=body, deadline_ns=deadline_ns
            ) as response:
                self._receive(response, builder)
        except AgentCallError as error:
            raise self._scrubbed(error) from error.__cause__
        return builder.build(attempts=tuple(failed))

    def _receive(self, response: RawResponse, builder: AnswerBuilder) -> None:
        from harness.agents.transport import ConnectionLostError, DeadlinePassedError

        builder.request_id = next(
            (
                response.headers[name]
                for name in _REQUEST_ID_HEADERS
                if name in response.headers
            ),
            None,
        )
        try:
            if response.status != HTTP_OK:
                raise error_from_response(
                    status=response.status,
                    headers=response.headers,
                    body=response.read(bytes_max=ERROR_BODY_BYTES_MAX),
                    request_id=builder.request_id,
                    clock=self._clock,
                )
            kind = response.headers.get("content-type", "").split(";")[0].strip()
            if kind == "text/event-stream":
                self._receive_stream(response, builder)
            elif kind in {"application/json", ""}:
                builder.add_body(response.read(), self._clock.monotonic_ns())
            else:
                msg = (
                    f"agent endpoint answered 200 with {kind}, not an answer: "
                    "a login page or a proxy in the way?"
                )
                raise AgentBadResponseError(msg, status=response.status)
        except DeadlinePassedError as error:
            msg = f"no whole answer within {self.timeout_s:g} s"
            raise AgentTimeoutError(
                msg, request_id=builder.request_id, partial_text=builder.text
            ) from error
        except ConnectionLostError as error:
            msg = f"the connection broke in the middle of the answer: {error}"
            raise AgentStreamTruncatedError(
                msg, request_id=builder.request_id, partial_text=builder.text
            ) from error

    def _receive_stream(self, response: RawResponse, builder: AnswerBuilder) -> None:
        from harness.agents.transport import ConnectionLostError, DeadlinePassedError

        parser = SseParser()
        read_ns = self._clock.monotonic_ns
        add = builder.add_event
        try:
            for chunk in response.chunks():
                at_ns = read_ns()
                for event in parser.feed(chunk):
                    add(event.data, at_ns)
                if builder.finished:
                    response.shorten_deadline(CLOSING_TIMEOUT_S)
        except FrameTooLargeError as error:
            msg = f"the stream holds {error}"
            raise AgentBadResponseError(msg, partial_text=builder.text) from error
        except (ConnectionLostError, DeadlinePassedError):
            if builder.finished:
                return
            raise
        rest = parser.close()
        if rest is not None and not builder.finished:
            # Half an event is no bad event: the stream was cut, as said below.
            with suppress(AgentBadResponseError):
                add(rest.data, read_ns())
        if not builder.finished:
            msg = "the stream ended without its end marker"
            raise AgentStreamTruncatedError(
                msg, request_id=builder.request_id, partial_text=builder.text
            )

    def _scrubbed(self, error: AgentCallError) -> AgentCallError:
        """Take the token out of a message in which the server echoed it."""
        secret = self._token.get_secret_value()
        if secret:
            error.args = tuple(
                arg.replace(secret, "**********") if isinstance(arg, str) else arg
                for arg in error.args
            )
        return error


def require_endpoint(settings: AgentSettings) -> tuple[SecretStr, str, str]:
    """Return (token, base URL, model), all set.

    Raises:
        ConfigError: Naming every one of them that is missing.
    """
    token, base_url, model = settings.token, settings.base_url, settings.model
    if token and base_url and model:
        return token, base_url, model
    missing = [
        name
        for name, value in (
            ("DATABRICKS_TOKEN", token),
            ("DATABRICKS_BASE_URL", base_url),
            ("DATABRICKS_MODEL", model),
        )
        if not value
    ]
    msg = (
        f"the agent endpoint is not configured: set {', '.join(missing)} "
        "(URL: https://<workspace>/serving-endpoints, model: ka-...-endpoint), "
        "or use --agent=stub"
    )
    raise ConfigError(msg)


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    wanted = "it must be https://<workspace>/serving-endpoints"
    if parts.username is not None or parts.password is not None:
        # Not quoted: what stands there is a credential.
        msg = f"DATABRICKS_BASE_URL holds a user name or password; {wanted}"
        raise ConfigError(msg)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"DATABRICKS_BASE_URL is {base_url!r}; {wanted}"
        raise ConfigError(msg)
    return base_url.rstrip("/").removesuffix("/responses")
