"""Questions as the endpoint wants them: route, body and conversation."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote, urlsplit

from harness.agents.errors import AgentPayloadTooLargeError
from harness.agents.json_values import as_list, as_mapping, as_text
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

    from harness.settings import AgentSettings

Route = Literal["auto", "responses", "invocations", "chat"]
Question = "str | Sequence[Mapping[str, Any]]"

# The platform's limit for agent endpoints; larger bodies are refused anyway.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
# Knowledge Assistants and Supervisors: their task need not be asked for.
_AGENT_NAME = re.compile(r"(ka|mas)-[0-9a-z-]+-endpoint")
_TASK_ROUTES: dict[str, Route] = {
    "llm/v1/chat": "chat",
    "agent/v1/chat": "chat",
    "agent/v2/chat": "chat",
}
# Made once: json.dumps makes an encoder for every call that is not the default.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_OURS = frozenset({"model", "input", "messages", "stream"})


def route_of_name(model: str) -> Route | None:
    """Return the route that an endpoint's name tells, or None."""
    return "responses" if _AGENT_NAME.fullmatch(model) else None


def route_of_task(task: str | None) -> Route:
    """Return the route for an endpoint's `task`."""
    return _TASK_ROUTES.get(task or "", "responses")


def checked_route(route: str) -> Route:
    """Return *route*.

    Raises:
        ConfigError: If there is no such route.
    """
    if route not in get_args(Route):
        msg = f"route is {route!r}; it must be one of {', '.join(get_args(Route))}"
        raise ConfigError(msg)
    return route  # type: ignore[return-value] # one of them, as just seen


def path_of(route: Route, model: str) -> str:
    """Return the path of a route, below the base URL."""
    if route == "invocations":
        return f"/{quote(model, safe='')}/invocations"
    return "/chat/completions" if route == "chat" else "/responses"


def body_of(
    question: str | Sequence[Mapping[str, Any]],
    *,
    route: Route,
    model: str,
    stream: bool,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body of a request.

    Args:
        question: A question, or `input` items (a conversation) as they are.
        route: How the endpoint is asked.
        model: Name of the endpoint.
        stream: Whether the answer is to be streamed.
        extra: Further members of the body, such as `custom_inputs`.

    Raises:
        ConfigError: If *extra* holds what this function sets.
        AgentPayloadTooLargeError: If the endpoint would refuse it for its size.
    """
    items = [user_turn(question)] if isinstance(question, str) else list(question)
    body: dict[str, Any] = {} if route == "invocations" else {"model": model}
    if route == "chat":
        body["messages"] = [_message(item) for item in items]
    else:
        body["input"] = items
    body["stream"] = stream
    if extra:
        taken = sorted(_OURS.intersection(extra))
        if taken:
            msg = f"extra must not hold {', '.join(taken)}: the client sets them"
            raise ConfigError(msg)
        body.update(extra)
    encoded = _encode(body).encode()
    if len(encoded) > REQUEST_BYTES_MAX:
        msg = (
            f"the question is {len(encoded)} bytes; "
            f"agent endpoints accept {REQUEST_BYTES_MAX}"
        )
        raise AgentPayloadTooLargeError(msg)
    return encoded


def user_turn(text: str) -> dict[str, Any]:
    """Return a question as an `input` item."""
    return {"role": "user", "content": text}


def assistant_turn(text: str) -> dict[str, Any]:
    """Return an earlier answer as an `input` item."""
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


def checked_url(base_url: str) -> str:
    """Return a base URL in the one form the paths are appended to.

    Raises:
        ConfigError: If it cannot be used.
    """
    parts = urlsplit(base_url)
    wanted = "it must be https://<workspace>/serving-endpoints"
    if parts.username is not None or parts.password is not None:
        # Not quoted: what stands there is a credential.
        msg = f"DATABRICKS_BASE_URL holds a user name or password; {wanted}"
        raise ConfigError(msg)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"DATABRICKS_BASE_URL is {base_url!r}; {wanted}"
        raise ConfigError(msg)
    if parts.query or parts.fragment:
        msg = f"DATABRICKS_BASE_URL holds a query or a fragment; {wanted}"
        raise ConfigError(msg)
    path = parts.path.rstrip("/").removesuffix("/responses") or "/serving-endpoints"
    return f"{parts.scheme}://{parts.netloc}{path}"


def origin_of(base_url: str) -> str:
    """Return `https://host` of a base URL."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


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


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an `input` item as a chat message."""
    content = item.get("content")
    if isinstance(content, str):
        text = content
    else:
        parts = [as_text(as_mapping(p).get("text")) for p in as_list(content)]
        text = "".join(part for part in parts if part)
    return {"role": item.get("role", "user"), "content": text}
