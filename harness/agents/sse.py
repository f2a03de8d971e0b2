"""An incremental parser of server-sent events: bytes in, events out."""

from __future__ import annotations

from typing import NamedTuple

# An agent's whole answer comes again in one frame, and its limit is 4 MB.
FRAME_BYTES_MAX = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event.

    Attributes:
        data: The joined `data` lines.
        name: The `event` field; empty on this platform, which sends none.
    """

    data: str
    name: str = ""


class FrameTooLargeError(ValueError):
    """A frame grew beyond the limit without an end."""


class SseParser:
    """Parses a byte stream however it is cut: in lines, in CRLF, in characters.

    Args:
        frame_bytes_max: Largest frame accepted.
    """

    def __init__(self, *, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._held_bytes = 0
        # A line is collected in parts, so that a long one is joined only once.
        self._parts: list[bytes] = []
        self._data: list[bytes] = []
        self._name = b""
        self._skip_newline = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take the next bytes and return the events they complete.

        Raises:
            FrameTooLargeError: If a frame exceeds the limit.
        """
        if self._skip_newline and chunk:
            # The LF of a CRLF that was cut in two.
            self._skip_newline = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        if b"\n" not in chunk and b"\r" not in chunk:
            self._parts.append(chunk)
            self._check_size()
            return []
        self._parts.append(chunk)
        lines = b"".join(self._parts).splitlines(keepends=True)
        self._parts.clear()
        self._skip_newline = chunk.endswith(b"\r")
        if not lines[-1].endswith((b"\n", b"\r")):
            self._parts.append(lines.pop())
        events = []
        for line in lines:
            event = self._take_line(line.rstrip(b"\r\n"))
            if event is not None:
                events.append(event)
        self._check_size()
        return events

    def close(self) -> SseEvent | None:
        """Return what the stream ended in the middle of, or None.

        By the standard an event without its blank line is not an event. A server
        that drops the last newline still meant what it sent, so the caller decides.
        """
        if self._parts:
            line = b"".join(self._parts)
            self._parts.clear()
            self._take_line(line)
        return self._dispatch()

    def _take_line(self, line: bytes) -> SseEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._held_bytes += len(line)
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ")
        return None

    def _dispatch(self) -> SseEvent | None:
        data, name = self._data, self._name
        self._data, self._name, self._held_bytes = [], b"", 0
        if not data:
            return None
        return SseEvent(
            b"\n".join(data).decode("utf-8", "replace"), name.decode("utf-8", "replace")
        )

    def _check_size(self) -> None:
        size = self._held_bytes + sum(map(len, self._parts))
        if size > self._frame_bytes_max:
            msg = f"a frame of more than {self._frame_bytes_max} bytes"
            raise FrameTooLargeError(msg)
