"""As much of HTTP/1.1 as a stub needs: requests in, response bytes out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

HEADER_BYTES_MAX = 64 * 1024
# The platform's limit for agent endpoints.
BODY_BYTES_MAX = 4 * 1024 * 1024


class RejectedError(Exception):
    """A request the stub refuses, as the platform would.

    Attributes:
        status: HTTP status to answer with.
        error_code: The platform's code.
        closes: Whether the connection can no longer be used.
    """

    def __init__(
        self, status: int, error_code: str, message: str, *, closes: bool = False
    ) -> None:
        self.status = status
        self.error_code = error_code
        self.closes = closes
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One whole request.

    Attributes:
        method: The verb.
        path: Path without the query.
        headers: Values by name in lower case.
        body: The whole body.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants to use the connection again."""
        return self.headers.get("connection", "").lower() != "close"


class RequestReader:
    """Cuts one connection's bytes into requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str], int] | None = None

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return (
            self._head is not None
            and self._head[2].get("expect", "").lower() == "100-continue"
            and not self._buffer
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """Return the next whole request, or None until more bytes come.

        Raises:
            RejectedError: If the bytes are no request the stub accepts.
        """
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if max(end, len(self._buffer) if end < 0 else 0) > HEADER_BYTES_MAX:
                raise RejectedError(
                    431, "BAD_REQUEST", "the headers are too large", closes=True
                )
            if end < 0:
                return None
            self._head = _parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        method, path, headers, length = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return Request(method=method, path=path, headers=headers, body=body)


def _parse_head(head: bytes) -> tuple[str, str, dict[str, str], int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1":  # noqa: PLR2004 - verb path version
        raise RejectedError(400, "BAD_REQUEST", "not an HTTP/1.1 request", closes=True)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise RejectedError(400, "BAD_REQUEST", "a bad header line", closes=True)
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise RejectedError(
            411, "BAD_REQUEST", "send the body with a Content-Length", closes=True
        )
    given = headers.get("content-length", "0")
    if not given.isascii() or not given.isdigit():
        raise RejectedError(400, "BAD_REQUEST", "a bad Content-Length", closes=True)
    length = int(given)
    if length > BODY_BYTES_MAX:
        raise RejectedError(
            413,
            "MAX_REQUEST_SIZE_EXCEEDED",
            f"the request is {length} bytes; the limit is {BODY_BYTES_MAX}",
            closes=True,
        )
    return parts[0], parts[1].partition("?")[0], headers, length


def json_response(
    status: int,
    body: dict[str, Any],
    *,
    request_id: str = "",
    closes: bool = False,
    retry_after: str = "",
) -> bytes:
    """Return a whole response with a JSON body."""
    payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return whole_response(
        status,
        "application/json",
        payload,
        request_id=request_id,
        closes=closes,
        retry_after=retry_after,
    )


def whole_response(
    status: int,
    content_type: str,
    payload: bytes,
    *,
    request_id: str = "",
    closes: bool = False,
    retry_after: str = "",
) -> bytes:
    """Return a whole response."""
    lines = [f"Content-Length: {len(payload)}"]
    if retry_after:
        lines.append(f"Retry-After: {retry_after}")
    if closes:
        lines.append("Connection: close")
    return _head(status, content_type, request_id, lines) + payload


def stream_head(
    *, request_id: str, content_type: str = "text/event-stream; charset=utf-8"
) -> bytes:
    """Return the head of a response of server-sent events."""
    lines = ["Cache-Control: no-cache", "Transfer-Encoding: chunked"]
    return _head(HTTPStatus.OK, content_type, request_id, lines)


def chunk(data: bytes) -> bytes:
    """Return *data* as one chunk of a chunked body; empty *data* ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(status: int, content_type: str, request_id: str, more: list[str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        *([f"x-request-id: {request_id}"] if request_id else []),
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
