"""As much of an HTTP server as the control plane needs, over h11."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import h11

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

READ_BYTES = 65_536
BODY_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One whole request.

    Attributes:
        method: The verb.
        path: Path without the query.
        query: Parameters of the query.
        headers: Values by name in lower case.
        body: The body, read as JSON or as a form; empty if it has none.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class MalformedBodyError(ValueError):
    """A body that is neither a JSON object nor a form."""


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request], Awaitable[Response]],
) -> None:
    """Answer the requests of one connection until it is closed."""
    connection = h11.Connection(h11.SERVER)
    with suppress(ConnectionError, h11.RemoteProtocolError):
        while (request := await _next_request(connection, reader)) is not None:
            try:
                response = await answer(_parsed(*request))
            except MalformedBodyError as error:
                body = {"error_code": "MALFORMED_REQUEST", "message": str(error)}
                response = Response(status=400, body=json.dumps(body).encode())
            headers = {
                "Content-Type": "application/json",
                "Content-Length": str(len(response.body)),
                **response.headers,
            }
            for event in (
                h11.Response(status_code=response.status, headers=[*headers.items()]),
                h11.Data(data=response.body),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(event) or b"")
            await writer.drain()
            if connection.our_state is not h11.DONE:
                break
            connection.start_next_cycle()
    writer.close()


async def _next_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> tuple[h11.Request, bytes] | None:
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_BYTES_MAX:
                return None
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request, bytes(body)
        else:
            return None


def _parsed(request: h11.Request, body: bytes) -> Request:
    headers = {
        name.decode(): value.decode("latin-1") for name, value in request.headers
    }
    parts = urlsplit(request.target.decode("latin-1"))
    values: Any = {}
    if body:
        if "form-urlencoded" in headers.get("content-type", ""):
            values = dict(parse_qsl(body.decode("utf-8", "replace")))
        else:
            try:
                values = json.loads(body)
            except ValueError:
                values = None
    if not isinstance(values, dict):
        msg = "the body is not a JSON object"
        raise MalformedBodyError(msg)
    return Request(
        method=request.method.decode(),
        path=parts.path,
        query=dict(parse_qsl(parts.query)),
        headers=headers,
        body=values,
    )
