"""Postgres's protocol, as much as a proxy must read and write."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
PROTOCOL_3 = 3 << 16
STARTUP_BYTES_MAX = 10_000
# Of a message: its kind and its length.
HEAD_BYTES = 5
TLS_HANDSHAKE = 0x16

ASK_CLEARTEXT = b"R\x00\x00\x00\x08\x00\x00\x00\x03"
AUTHENTICATED = b"R\x00\x00\x00\x08\x00\x00\x00\x00"
TERMINATE = b"X\x00\x00\x00\x04"
# The last message before the server waits; its status follows: I, T or E.
READY_HEAD = b"Z\x00\x00\x00\x05"
READY_IDLE = READY_HEAD + b"I"


class ProtocolError(Exception):
    """Bytes that are not Postgres's protocol."""


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818 - what the server says, not our failure
    """A login refused, or a session ended, in the server's own form.

    Attributes:
        sqlstate: Five characters.
        message: What is said.
        reason: What the journal says: often more than a client may know.
    """

    sqlstate: str
    message: str
    reason: str = ""


def message(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one message of the protocol."""
    return kind + struct.pack("!I", len(payload) + 4) + payload


def error_response(refusal: Refusal, *, severity: str = "FATAL") -> bytes:
    """Return a refusal as the server sends it."""
    fields = (
        ("S", severity),
        ("V", severity),
        ("C", refusal.sqlstate),
        ("M", refusal.message),
    )
    payload = b"".join(f"{key}{value}\0".encode() for key, value in fields)
    return message(b"E", payload + b"\0")


def startup_packet(
    parameters: Mapping[str, str], *, version: int = PROTOCOL_3
) -> bytes:
    """Return the packet that opens a session."""
    pairs = b"".join(f"{k}\0{v}\0".encode() for k, v in parameters.items())
    body = struct.pack("!I", version) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def parse_startup(body: bytes) -> dict[str, str]:
    """Return the parameters of a startup packet, without its length.

    Raises:
        ProtocolError: It is no startup packet of version 3.
    """
    (version,) = struct.unpack_from("!I", body)
    if version >> 16 != 3:  # noqa: PLR2004 - the only protocol there is
        msg = f"unsupported protocol {version >> 16}.{version & 0xFFFF}"
        raise ProtocolError(msg)
    parts = body[4:].split(b"\0")
    texts = [part.decode("utf-8", "replace") for part in parts]
    return {k: v for k, v in zip(texts[::2], texts[1::2], strict=False) if k}


def error_fields(payload: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse by their letter."""
    return {
        part[:1].decode(): part[1:].decode("utf-8", "replace")
        for part in payload.split(b"\0")
        if part
    }


class Framer:
    """Finds the ends of messages in a stream, without copying what is in them."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def statuses(self, data: bytes) -> Iterator[bytes]:
        """Yield the transaction status of every ReadyForQuery that ends in *data*."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                if not self._left and self._head[:1] == b"Z":
                    yield data[at - 1 : at]
                if not self._left:
                    self._head = b""
                continue
            step = min(HEAD_BYTES - len(self._head), end - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == HEAD_BYTES:
                self._left = struct.unpack_from("!I", self._head, 1)[0] - 4
                if not self._left:
                    self._head = b""
