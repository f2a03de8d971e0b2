"""What it means that a request got no response, and the way it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore2

from harness.agents.errors import (
    AgentBadResponseError,
    AgentCallError,
    AgentConnectionError,
    AgentProxyError,
    AgentTimeoutError,
)

if TYPE_CHECKING:
    from harness.agents.deadline import Deadline
    from harness.agents.transport import Outgoing
    from harness.settings.proxy import Proxy

CONNECT_TIMEOUT_S = 5.0


def no_response(
    error: Exception, outgoing: Outgoing, deadline: Deadline, *, via: str = ""
) -> AgentCallError:
    """Return the error that stands for a request without a response.

    Args:
        error: What the engine raised.
        outgoing: The request.
        deadline: Its deadline.
        via: Names the proxy it went through, if one.
    """
    url, origin = outgoing.url, "/".join(outgoing.url.split("/", 3)[:3]) + via
    if isinstance(error, httpcore2.ConnectTimeout) and deadline.remaining_s() > 0:
        msg = f"no connection to {origin} within {CONNECT_TIMEOUT_S:g} s"
        return AgentConnectionError(msg)
    if isinstance(error, httpcore2.TimeoutException):
        return AgentTimeoutError(f"no response from {url} in time")
    if isinstance(error, httpcore2.NetworkError):
        return AgentConnectionError(f"no connection to {origin}: {reason(error)}")
    if isinstance(error, httpcore2.RemoteProtocolError) and not deadline.peer_closed:
        return AgentBadResponseError(f"{origin} does not speak HTTP: {reason(error)}")
    if isinstance(error, httpcore2.ProxyError):
        said = reason(error)
        msg = f"no connection to {origin}: the proxy answered {said}"
        # Its 5xx says that it cannot reach the endpoint now; a refusal will stay.
        return (AgentConnectionError if said.startswith("5") else AgentProxyError)(msg)
    what = "closed the connection without a response"
    if not isinstance(error, httpcore2.RemoteProtocolError):
        what = f"cannot be sent to: {reason(error)}"
    return AgentConnectionError(f"{origin} {what}")


def via_of(proxy: Proxy | None) -> str:
    """Return how an error names the way through a proxy."""
    return "" if proxy is None else f" through the proxy {proxy.address}"


def proxy_of(proxy: Proxy | None) -> httpcore2.Proxy | None:
    """Return a proxy as the engine wants it."""
    if proxy is None:
        return None
    return httpcore2.Proxy(proxy.address, auth=proxy.credentials())


def reason(error: Exception) -> str:
    """Return what a library says of its error."""
    return str(error) or type(error).__name__
