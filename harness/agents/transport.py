"""HTTP for the client: kept-open connections and one deadline for every read.

Built on `httpcore2`, the engine of httpx2, because its network backend is the one
place where a *total* deadline can be kept: a time-out per read never fires against
a server that sends one byte now and then.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore2

from harness.agents.errors import (
    AgentBadResponseError,
    AgentConnectionError,
    AgentTimeoutError,
)
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness.clock import Clock

CONNECT_TIMEOUT_S = 5.0
# Idle connections older than this may have been dropped by a load balancer.
KEEPALIVE_S = 60.0
BODY_BYTES_MAX = 64 * 1024 * 1024


class DeadlinePassedError(Exception):
    """The deadline came in the middle of a response."""


class ConnectionLostError(Exception):
    """The connection broke in the middle of a response."""


class RawResponse:
    """A response whose body is still to be read.

    Attributes:
        status: HTTP status.
        headers: Header values by name in lower case.
    """

    def __init__(self, response: httpcore2.Response, deadline: _Deadline) -> None:
        self.status = response.status
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        }
        self._stream: Any = response.stream
        self._deadline = deadline

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
            raise ConnectionLostError(_reason(error)) from error

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
    """Posts to one origin over connections that are kept open.

    Safe to share between threads; connections are as many as callers, so that no
    caller waits for another inside the client.

    Args:
        base_url: What the paths are appended to.
        authorize: Returns the Authorization header; asked for every request.
        clock: Tells how much time is left.
        ssl_context: For https; None for the system's certificates.
    """

    def __init__(
        self,
        *,
        base_url: str,
        authorize: Callable[[], str],
        clock: Clock,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._authorize = authorize
        self._base_url = base_url.rstrip("/")
        self._deadline = _Deadline(clock)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=None,
            keepalive_expiry=KEEPALIVE_S,
            network_backend=_Backend(self._deadline),
        )

    @contextmanager
    def post(
        self,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        deadline_ns: int,
    ) -> Iterator[RawResponse]:
        """Send *body* and yield the response once its headers are read.

        Raises:
            AgentConnectionError: If no response began.
            AgentTimeoutError: If the deadline passed before.
            AgentBadResponseError: If what came back is not HTTP.
        """
        self._deadline.start(deadline_ns)
        request = httpcore2.Request(
            "POST",
            self._base_url + path,
            headers=[
                *headers.items(),
                # Never in a local variable, which a traceback might show.
                ("Authorization", self._authorize()),
                ("Host", _host(self._base_url)),
                ("Content-Length", str(len(body))),
            ],
            content=body,
            extensions={"timeout": {"connect": CONNECT_TIMEOUT_S}},
        )
        try:
            response = self._pool.handle_request(request)
        except httpcore2.TimeoutException as error:
            msg = f"no response from {self._base_url}{path} in time"
            raise AgentTimeoutError(msg) from error
        except httpcore2.NetworkError as error:
            msg = f"no connection to {self._base_url}: {_reason(error)}"
            raise AgentConnectionError(msg) from error
        except httpcore2.RemoteProtocolError as error:
            if self._deadline.peer_closed:
                msg = f"{self._base_url} closed the connection without a response"
                raise AgentConnectionError(msg) from error
            msg = f"{self._base_url} does not speak HTTP: {_reason(error)}"
            raise AgentBadResponseError(msg) from error
        except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            msg = f"cannot send to {self._base_url}: {_reason(error)}"
            raise AgentConnectionError(msg) from error
        try:
            yield RawResponse(response, self._deadline)
        finally:
            response.close()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Deadline(threading.local):
    """When the calling thread's request must be over."""

    def __init__(self, clock: Clock) -> None:
        self.at_ns: int | None = None
        self.peer_closed = False
        self._clock = clock

    def start(self, at_ns: int) -> None:
        """Begin a request that must be over at *at_ns*."""
        self.at_ns = at_ns
        self.peer_closed = False

    def remaining_s(self, *, at_most_s: float | None = None) -> float | None:
        """Seconds left, None for no limit; 0 or less when it has passed."""
        if self.at_ns is None:
            return at_most_s
        left_s = (self.at_ns - self._clock.monotonic_ns()) / NS_PER_S
        return left_s if at_most_s is None else min(left_s, at_most_s)

    def shorten(self, seconds: float) -> None:
        at_ns = self._clock.monotonic_ns() + round(seconds * NS_PER_S)
        self.at_ns = at_ns if self.at_ns is None else min(self.at_ns, at_ns)


class _Backend(httpcore2.SyncBackend):
    """Sockets that keep the deadline of the thread that uses them."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        remaining_s = self._deadline.remaining_s(at_most_s=timeout)
        if remaining_s is not None and remaining_s <= 0:
            raise httpcore2.ConnectTimeout
        stream = super().connect_tcp(
            host, port, remaining_s, local_address, socket_options
        )
        return _Stream(stream, self._deadline)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        remaining_s = self._deadline.remaining_s(at_most_s=timeout)
        if remaining_s is not None and remaining_s <= 0:
            raise httpcore2.ReadTimeout
        data = self._stream.read(max_bytes, remaining_s)
        if not data:
            self._deadline.peer_closed = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        remaining_s = self._deadline.remaining_s(at_most_s=timeout)
        if remaining_s is not None and remaining_s <= 0:
            raise httpcore2.WriteTimeout
        self._stream.write(buffer, remaining_s)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        remaining_s = self._deadline.remaining_s(at_most_s=timeout)
        if remaining_s is not None and remaining_s <= 0:
            raise httpcore2.ConnectTimeout
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining_s)
        return _Stream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _host(base_url: str) -> str:
    return base_url.split("://", 1)[-1].split("/", 1)[0]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
