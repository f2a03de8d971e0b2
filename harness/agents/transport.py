"""HTTP for the client: kept-open connections and one deadline for every read.

Built on `httpcore2`, the engine of httpx2, because its network backend is the one
place where a *total* deadline can be kept: a time-out per read never fires against
a server that sends one byte now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpcore2

from harness.agents.deadline import (
    ConnectionLostError,
    Deadline,
    DeadlinePassedError,
)
from harness.agents.errors import AgentConnectionError
from harness.agents.no_response import (
    CONNECT_TIMEOUT_S,
    no_response,
    proxy_of,
    reason,
    via_of,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import (
        AsyncIterator,
        Callable,
        Iterable,
        Iterator,
        Mapping,
    )

    from harness.settings.proxy import Proxy

# Idle connections older than this may have been dropped by a load balancer.
KEEPALIVE_S = 60.0
BODY_BYTES_MAX = 64 * 1024 * 1024


class Address:
    """Where requests of one kind go, taken apart once for all of them.

    Args:
        url: Whole address.
        headers: Without those that say who asks and how long the body is.

    Attributes:
        url: The same as given.
        parts: As the engine wants it.
        headers: Likewise, the host among them.
    """

    __slots__ = ("headers", "parts", "url")

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self.parts = _Url(url)
        host = url.split("://", 1)[-1].split("/", 1)[0]
        self.headers = [
            (name.encode("ascii"), value.encode("ascii"))
            for name, value in {**headers, "Host": host}.items()
        ]


class _Url(httpcore2.URL):
    """An address whose origin is worked out once, not for every request."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._origin = super().origin

    @property
    def origin(self) -> httpcore2.Origin:
        return self._origin


class Outgoing(NamedTuple):
    """One request to send.

    Attributes:
        method: The verb.
        address: Where to.
        body: May be empty.
    """

    method: bytes
    address: Address
    body: bytes = b""

    @property
    def url(self) -> str:
        """Whole address."""
        return self.address.url


class RawResponse:
    """A response whose body is still to be read; closed by its `with` block.

    Attributes:
        status: HTTP status.
        headers: Header values by name in lower case.
    """

    def __init__(self, response: httpcore2.Response, deadline: Deadline) -> None:
        self.status = response.status
        self.headers = headers_of(response)
        self._response = response
        self._stream: Any = response.stream
        self._deadline = deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._response.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            DeadlinePassedError: If the deadline passes first.
            ConnectionLostError: If the connection breaks first.
        """
        try:
            yield from self._stream
        except httpcore2.TimeoutException as error:
            raise DeadlinePassedError from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise ConnectionLostError(reason(error)) from error

    def read(self, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Return the body, or its first *bytes_max* bytes."""
        parts: list[bytes] = []
        size = 0
        for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size >= bytes_max:
                break
        return b"".join(parts)[:bytes_max]

    def shorten_deadline(self, seconds: float) -> None:
        """Allow at most *seconds* from now for the rest of the body."""
        self._deadline.shorten(seconds)


class Transport:
    """Sends requests over connections that are kept open.

    Safe to share between threads; connections are as many as callers, so that no
    caller waits for another inside the client.

    Args:
        authorize: Returns the Authorization header; asked for every request.
        ssl_context: For https; None for the system's certificates.
        keeps_open: Whether connections are used again; False only to measure what
            that saves.
        proxy: Asked to pass requests on; None to connect directly.
    """

    def __init__(
        self,
        *,
        authorize: Callable[[], str],
        ssl_context: ssl.SSLContext | None = None,
        keeps_open: bool = True,
        proxy: Proxy | None = None,
    ) -> None:
        self._authorize = authorize
        self._via = via_of(proxy)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,
            max_keepalive_connections=None if keeps_open else 0,
            keepalive_expiry=KEEPALIVE_S,
            proxy=proxy_of(proxy),
            network_backend=_Backend(),
        )

    def send(self, outgoing: Outgoing, deadline: Deadline) -> RawResponse:
        """Send a request and return the response once its headers are read.

        Raises:
            AgentConnectionError: If no response began.
            AgentTimeoutError: If the deadline passed before.
            AgentBadResponseError: If what came back is not HTTP.
        """
        # The header never is in a local variable, which a traceback might show.
        request = request_of(outgoing, self._authorize(), deadline)
        try:
            response = self._pool.handle_request(request)
        except httpcore2.ConnectionNotAvailable as error:
            msg = f"cannot send to {outgoing.url}: {reason(error)}"
            raise AgentConnectionError(msg) from error
        except (
            httpcore2.TimeoutException,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.UnsupportedProtocol,
            httpcore2.ProxyError,
        ) as error:
            raise no_response(error, outgoing, deadline, via=self._via) from error
        return RawResponse(response, deadline)

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


def request_of(
    outgoing: Outgoing, authorization: str, deadline: Deadline
) -> httpcore2.Request:
    """Return the request as the engine wants it.

    The engine hands its "timeouts" on to the sockets without looking at them; ours
    are the deadline itself, so that each read is given what is left of the whole.
    """
    deadline.holds_head = bool(outgoing.body)
    return _Request(
        outgoing,
        [
            *outgoing.address.headers,
            (b"Authorization", authorization.encode("latin-1")),
            (b"Content-Length", b"%d" % len(outgoing.body)),
        ],
        {"timeout": {"connect": deadline, "read": deadline, "write": deadline}},
    )


class _Body:
    """A body that both the engine for threads and the one for event loops send."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class _Request(httpcore2.Request):
    """A request whose parts have the engine's own types already."""

    def __init__(
        self,
        outgoing: Outgoing,
        headers: list[tuple[bytes, bytes]],
        extensions: dict[str, Any],
    ) -> None:
        self.method = outgoing.method
        self.url = outgoing.address.parts
        self.headers = headers
        self.stream = _Body(outgoing.body)
        self.extensions = extensions


def headers_of(response: httpcore2.Response) -> dict[str, str]:
    """Return header values by name in lower case."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in response.headers
    }


class _Backend(httpcore2.SyncBackend):
    """Sockets that keep the deadline of the request that uses them."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Deadline | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        stream = super().connect_tcp(
            host,
            port,
            left_s(timeout, httpcore2.ConnectTimeout, at_most_s=CONNECT_TIMEOUT_S),
            local_address,
            socket_options,
        )
        return _Stream(stream)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._head = b""

    def read(self, max_bytes: int, timeout: float | Deadline | None = None) -> bytes:
        data = self._stream.read(max_bytes, left_s(timeout, httpcore2.ReadTimeout))
        if not data and isinstance(timeout, Deadline):
            timeout.peer_closed = True
        return data

    def write(self, buffer: bytes, timeout: float | Deadline | None = None) -> None:
        if not buffer:
            return
        if (
            isinstance(timeout, Deadline)
            and timeout.holds_head
            and not buffer.startswith(b"CONNECT ")
        ):
            timeout.holds_head, self._head = False, buffer
            return
        if self._head:
            # A head of its own would be a system call and a packet more.
            buffer, self._head = self._head + buffer, b""
        self._stream.write(buffer, left_s(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | Deadline | None = None,
    ) -> httpcore2.NetworkStream:
        at_most_s = left_s(
            timeout, httpcore2.ConnectTimeout, at_most_s=CONNECT_TIMEOUT_S
        )
        stream = self._stream.start_tls(ssl_context, server_hostname, at_most_s)
        return _Stream(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def left_s(
    timeout: float | Deadline | None,
    too_late: type[httpcore2.TimeoutException],
    *,
    at_most_s: float | None = None,
) -> float | None:
    """Return the seconds one socket operation may take; None for no limit.

    Raises:
        TimeoutException: As *too_late*, if the deadline has passed.
    """
    if not isinstance(timeout, Deadline):
        return timeout
    remaining_s = timeout.remaining_s()
    if remaining_s <= 0:
        raise too_late
    if too_late is httpcore2.ReadTimeout and timeout.silence_s is not None:
        at_most_s = timeout.silence_s
    return remaining_s if at_most_s is None else min(remaining_s, at_most_s)
