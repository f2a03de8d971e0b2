"""HTTP for the client inside an event loop; see `harness.agents.transport`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import httpcore2

from harness.agents.deadline import (
    ConnectionLostError,
    Deadline,
    DeadlinePassedError,
)
from harness.agents.no_response import (
    CONNECT_TIMEOUT_S,
    no_response,
    proxy_of,
    reason,
    via_of,
)
from harness.agents.transport import (
    BODY_BYTES_MAX,
    KEEPALIVE_S,
    Outgoing,
    headers_of,
    left_s,
    request_of,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Iterable,
    )

    from harness.settings.proxy import Proxy


class AsyncRawResponse:
    """A response whose body is still to be read; see `RawResponse`."""

    def __init__(self, response: httpcore2.Response, deadline: Deadline) -> None:
        self.status = response.status
        self.headers = headers_of(response)
        self._response = response
        self._stream: Any = response.stream
        self._deadline = deadline

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self._response.aclose()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives.

        Raises:
            DeadlinePassedError: If the deadline passes first.
            ConnectionLostError: If the connection breaks first.
        """
        try:
            async for chunk in self._stream:
                yield chunk
        except httpcore2.TimeoutException as error:
            raise DeadlinePassedError from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise ConnectionLostError(reason(error)) from error

    async def read(self, *, bytes_max: int = BODY_BYTES_MAX) -> bytes:
        """Return the body, or its first *bytes_max* bytes."""
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size >= bytes_max:
                break
        return b"".join(parts)[:bytes_max]

    def shorten_deadline(self, seconds: float) -> None:
        """Allow at most *seconds* from now for the rest of the body."""
        self._deadline.shorten(seconds)


class AsyncTransport:
    """Sends requests over connections that are kept open; see `Transport`."""

    def __init__(
        self,
        *,
        authorize: Callable[[], Awaitable[str]],
        ssl_context: ssl.SSLContext | None = None,
        keeps_open: bool = True,
        proxy: Proxy | None = None,
    ) -> None:
        self._authorize = authorize
        self._via = via_of(proxy)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,
            max_keepalive_connections=None if keeps_open else 0,
            keepalive_expiry=KEEPALIVE_S,
            proxy=proxy_of(proxy),
            network_backend=_Backend(),
        )

    async def send(self, outgoing: Outgoing, deadline: Deadline) -> AsyncRawResponse:
        """Send a request and return the response once its headers are read.

        Raises:
            AgentConnectionError: If no response began.
            AgentTimeoutError: If the deadline passed before.
            AgentBadResponseError: If what came back is not HTTP.
        """
        request = request_of(outgoing, await self._authorize(), deadline)
        try:
            response = await self._pool.handle_async_request(request)
        except (
            httpcore2.TimeoutException,
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.UnsupportedProtocol,
            httpcore2.ProxyError,
        ) as error:
            raise no_response(error, outgoing, deadline, via=self._via) from error
        return AsyncRawResponse(response, deadline)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Backend(httpcore2.AnyIOBackend):
    """Sockets that keep the deadline of the request that uses them."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | Deadline | None = None,  # noqa: ASYNC109 - the engine's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(
            host,
            port,
            left_s(timeout, httpcore2.ConnectTimeout, at_most_s=CONNECT_TIMEOUT_S),
            local_address,
            socket_options,
        )
        return _Stream(stream)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._head = b""

    async def read(
        self,
        max_bytes: int,
        timeout: float | Deadline | None = None,  # noqa: ASYNC109 - the engine's
    ) -> bytes:
        at_most_s = left_s(timeout, httpcore2.ReadTimeout)
        data = await self._stream.read(max_bytes, at_most_s)
        if not data and isinstance(timeout, Deadline):
            timeout.peer_closed = True
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | Deadline | None = None,  # noqa: ASYNC109 - the engine's
    ) -> None:
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
            buffer, self._head = self._head + buffer, b""
        await self._stream.write(buffer, left_s(timeout, httpcore2.WriteTimeout))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | Deadline | None = None,  # noqa: ASYNC109 - the engine's
    ) -> httpcore2.AsyncNetworkStream:
        at_most_s = left_s(
            timeout, httpcore2.ConnectTimeout, at_most_s=CONNECT_TIMEOUT_S
        )
        return _Stream(
            await self._stream.start_tls(ssl_context, server_hostname, at_most_s)
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
