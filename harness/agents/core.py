"""What the client for threads and the client for event loops have in common."""

from __future__ import annotations

from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Self

from harness.agents.auth import (
    Authorization,
    ProvidedToken,
    StaticToken,
    login_of,
)
from harness.agents.deadline import Deadline
from harness.agents.exchange import Exchange
from harness.agents.overload import CircuitBreaker, process_budget
from harness.agents.questions import (
    Route,
    body_of,
    checked_route,
    checked_url,
    origin_of,
    path_of,
    require_endpoint,
    route_of_name,
)
from harness.agents.retry import Course, RetryPolicy
from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.settings.proxy import proxy_for

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import SecretStr

    from harness.agents.transport import Address, Outgoing
    from harness.clock import Clock
    from harness.retry_budget import RetryBudget
    from harness.settings import AgentSettings, DatabricksSettings
    from harness.settings.proxy import Proxy

_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "lakegauge",
}
_STATE_HEADERS = {"Accept": "application/json", "User-Agent": "lakegauge"}
_STREAM_HEADERS = {**_HEADERS, "Accept": "text/event-stream"}


class ClientCore:
    """An endpoint, who asks it and how patiently.

    Args:
        base_url: `https://<workspace>/serving-endpoints`.
        token: Bearer token; or a function that returns one, asked for every request;
            or an `Authorization`. It reaches nothing but the Authorization header.
        model: Name of the serving endpoint.
        timeout_s: Total deadline of a call, retries and waits included.
        silence_s: Longest time without a byte of the response, in seconds; None
            leaves it to the deadline.
        max_retries: Requests after the first; 0, for benchmarks, sends one.
        retry_delay_s: Cap of the back-off between retries.
        retry_timeouts: Whether 504, 408 and silence are tried again too.
        budget: Where retries come from; None is the budget that all clients of the
            endpoint in this process share.
        breaker: Stops asking an endpoint that fails again and again; none by default.
        route: How the endpoint is asked: "responses", "invocations", "chat", or
            "auto", which goes by its name (ka-..., mas-...) and else asks the
            workspace once for its task.
        keeps_open: Whether connections are used again; False only to measure that.
        proxy: Asked to pass requests on; `from_settings` takes the one that the
            environment names (HTTPS_PROXY, NO_PROXY).
        ca_pem: Roots to trust for https instead of the system's, in PEM.
        clock: Source of every timestamp.
        random: Source of the back-off's jitter.

    Raises:
        ConfigError: If an argument cannot be used, or httpcore2 is not installed.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: SecretStr | Callable[[], str | SecretStr] | Authorization,
        model: str,
        timeout_s: float = 60.0,
        silence_s: float | None = None,
        max_retries: int = 0,
        retry_delay_s: float = 30.0,
        retry_timeouts: bool = False,
        budget: RetryBudget | None = None,
        breaker: CircuitBreaker | None = None,
        route: Route = "responses",
        keeps_open: bool = True,
        proxy: Proxy | None = None,
        ca_pem: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Random | None = None,
    ) -> None:
        self.base_url = checked_url(base_url)
        self.model = model
        self.timeout_s = timeout_s
        self.policy = RetryPolicy(
            max_retries=max_retries,
            delay_max_s=retry_delay_s,
            retry_timeouts=retry_timeouts,
        )
        if timeout_s <= 0 or (silence_s is not None and silence_s <= 0):
            msg = (
                "timeout_s and silence_s must be > 0, got "
                f"timeout_s={timeout_s}, silence_s={silence_s}"
            )
            raise ConfigError(msg)
        self._origin = origin_of(self.base_url)
        self._silence_s = silence_s
        self._budget = budget or process_budget(f"{self.base_url} {model}")
        self._breaker = breaker
        self._route = checked_route(route)
        if route == "auto":
            self._route = route_of_name(model) or "auto"
        self._authorization = authorization_of(token)
        self._proxy = proxy
        self._addresses: dict[tuple[Route, bool], Address] = {}
        self._clock = clock
        self._random = random or SystemRandom()
        self._open(keeps_open=keeps_open, ssl_context=_trusting(ca_pem), proxy=proxy)

    def _open(
        self,
        *,
        keeps_open: bool,
        ssl_context: ssl.SSLContext | None,
        proxy: Proxy | None,
    ) -> None:
        raise NotImplementedError

    @classmethod
    def from_settings(
        cls,
        settings: AgentSettings,
        *,
        databricks: DatabricksSettings | None = None,
        **options: Any,
    ) -> Self:
        """Return a client of the endpoint that the settings name.

        Args:
            settings: The `agent` part of the settings.
            databricks: The `databricks` part; its OAuth client or profile logs in
                where `agent` holds no token.
            options: Override what the settings say, such as `max_retries`.

        Raises:
            ConfigError: If the URL or the model is not set, or there is neither a
                token nor another login.
            CredentialError: If the workspace gives no token.
        """
        login = None
        if databricks is not None and settings.token is None and settings.model:
            login = login_of(
                databricks,
                host=origin_of(settings.base_url) if settings.base_url else None,
            )
        if login is not None:
            token: Any = login
            base_url = settings.base_url or f"{login.host}/serving-endpoints"
            model = settings.model or ""
        else:
            token, base_url, model = require_endpoint(settings)
        arguments: dict[str, Any] = {
            "timeout_s": settings.timeout_s,
            "max_retries": settings.max_retries,
            "retry_delay_s": settings.retry_delay_s,
            "route": "auto",
            "proxy": proxy_for(base_url),
            **{name: v for name, v in options.items() if v is not None},
        }
        return cls(base_url=base_url, token=token, model=model, **arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model!r} at {self.base_url}>"

    def _deadline(self) -> Deadline:
        return Deadline(self.timeout_s, clock=self._clock, silence_s=self._silence_s)

    def _course(self, deadline: Deadline) -> Course:
        return Course(
            policy=self.policy,
            deadline=deadline,
            clock=self._clock,
            random=self._random,
            budget=self._budget,
            breaker=self._breaker,
            renewable=self._authorization.renewable,
            asked=self.model or self._origin,
        )

    def _exchange(
        self,
        deadline: Deadline,
        on_event: Callable[[str, int], object] | None = None,
    ) -> Exchange:
        return Exchange(
            deadline=deadline.renew(),
            clock=self._clock,
            origin=self._origin,
            asked=self.model or self._origin,
            scrub=self._scrub,
            on_event=on_event,
        )

    def _scrub(self, text: str) -> str:
        """Return *text* without the token and the proxy's password."""
        if self._proxy is not None:
            text = self._proxy.scrub(text)
        return self._authorization.scrub(text)

    def _outgoing(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        route: Route,
        stream: bool,
        extra: Mapping[str, Any] | None,
    ) -> Outgoing:
        from harness.agents.transport import Address, Outgoing

        address = self._addresses.get((route, stream))
        if address is None:
            address = self._addresses[route, stream] = Address(
                self.base_url + path_of(route, self.model),
                _STREAM_HEADERS if stream else _HEADERS,
            )
        body = body_of(
            question, route=route, model=self.model, stream=stream, extra=extra
        )
        return Outgoing(b"POST", address, body)

    def _state_request(self) -> Outgoing:
        from harness.agents.readiness import state_path
        from harness.agents.transport import Address, Outgoing

        address = Address(self._origin + state_path(self.model), _STATE_HEADERS)
        return Outgoing(b"GET", address)


def _trusting(ca_pem: str | None) -> ssl.SSLContext | None:
    if ca_pem is None:
        return None
    import ssl

    try:
        return ssl.create_default_context(cadata=ca_pem)
    except ssl.SSLError as error:
        msg = f"ca_pem holds no certificate in PEM ({error.reason})"
        raise ConfigError(msg) from error


def authorization_of(
    token: SecretStr | Callable[[], str | SecretStr] | Authorization,
) -> Authorization:
    """Return the authorization that *token* stands for.

    Raises:
        ConfigError: If it is a plain text, which would be shown in tracebacks.
    """
    given: Any = token
    if hasattr(given, "get_secret_value"):
        return StaticToken(given)
    if hasattr(given, "header"):
        authorization: Authorization = given
        return authorization
    if callable(given):
        return ProvidedToken(given)
    msg = (
        f"token is a {type(token).__name__}; it must be a pydantic.SecretStr, a "
        "function that returns the token, or an Authorization"
    )
    raise ConfigError(msg)
