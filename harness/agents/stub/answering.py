"""One answer under way, on an absolute schedule: no delay adds up."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from harness.agents.stub.http1 import (
    chunk,
    json_response,
    stream_head,
    whole_response,
)
from harness.agents.stub.script import frame_of
from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.agents.stub.faults import Fault
    from harness.agents.stub.journal import Entry, Journal
    from harness.agents.stub.script import Script

BATCH_TOKENS_MAX = 64
END_OF_BODY = b"0\r\n\r\n"
# Faults that come after some tokens of an answer that began well.
MID_FAULTS = frozenset(
    {
        "reset-mid",
        "half-close",
        "truncate",
        "stall",
        "drip",
        "malformed",
        "oversized",
        "error-event",
        "untyped-error",
        "bad-json",
    }
)
BROKEN_FRAME = b'data: {"type":"response.output_text.delta","delta":\n\n'


class Answering:
    """Writes one answer.

    Args:
        transport: Where to.
        script: What.
        entry: Its line in the journal.
        journal: The run's.
        index: Index of the question.
        model: Name of the endpoint.
        stream: Whether it is streamed.
        keeps_alive: Whether the connection is used again.
        fault: What to do wrong, if anything.
        on_end: Called once with whether the connection can be used again.
    """

    def __init__(
        self,
        *,
        transport: asyncio.Transport,
        script: Script,
        entry: Entry,
        journal: Journal,
        index: int,
        model: str,
        stream: bool,
        keeps_alive: bool,
        fault: Fault | None,
        on_end: Callable[[bool], None],
    ) -> None:
        self._transport = transport
        self._script = script
        self._entry = entry
        self._journal = journal
        self._model = model
        self._stream = stream
        self._keeps_alive = keeps_alive
        self._fault = fault if fault and fault.kind in MID_FAULTS else None
        self._content_type = (
            "text/plain" if fault and fault.kind == "content-type" else ""
        )
        self._on_end = on_end
        self._offsets_ns = script.offsets_ns(index)
        self._tokens = len(self._offsets_ns)
        self._stop_at = self._tokens
        if self._fault is not None:
            self._stop_at = min(self._tokens, self._fault.after_tokens)
        # While drop by drop or after a stall there is no schedule to keep.
        self._drops = b""
        self._unscheduled = False
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def takes_ns(self) -> int:
        """How long it takes from the first token on."""
        return self._offsets_ns[-1]

    def start(self) -> None:
        """Write the head of a stream and wait for the first token's time."""
        if self._stream:
            entry = self._entry
            head = (
                stream_head(
                    request_id=entry.request_id, content_type=self._content_type
                )
                if self._content_type
                else stream_head(request_id=entry.request_id)
            )
            self._transport.write(
                head + self._script.head(request_id=entry.request_id, model=self._model)
            )
        self._write_what_is_due()

    def cancel(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def resume(self) -> None:
        """Go on after `cancel`; what became due meanwhile is written at once."""
        if self._drops:
            self._drip()
        else:
            self._write_what_is_due()

    def _write_what_is_due(self) -> None:
        if self._stream:
            self._write_tokens()
        else:
            self._write_body()

    def _write_tokens(self) -> None:
        entry, script, journal = self._entry, self._script, self._journal
        request_id = entry.request_id
        # What is due together goes out together: a write per token would cost both
        # sides a system call each. But no answer holds up the others for long.
        frames: list[bytes] = []
        while entry.tokens_sent < self._stop_at:
            due_ns = entry.first_due_ns + self._offsets_ns[entry.tokens_sent]
            now_ns = SYSTEM_CLOCK.monotonic_ns()
            if due_ns > now_ns and not self._unscheduled:
                self._wake_at(due_ns, now_ns)
                break
            if len(frames) == BATCH_TOKENS_MAX:
                self._timer = self._loop.call_soon(self._write_what_is_due)
                break
            frames.append(script.token(entry.tokens_sent, request_id=request_id))
            due_ns = now_ns if self._unscheduled else due_ns
            journal.wrote(entry, due_ns=due_ns, now_ns=now_ns)
        if frames:
            self._transport.write(b"".join(frames))
        if entry.tokens_sent < self._stop_at:
            return
        if self._fault is not None:
            self._do_fault(self._fault)
        else:
            tail = script.tail(
                request_id=request_id, model=self._model, tokens=self._tokens
            )
            self._finish(tail + END_OF_BODY)

    def _write_body(self) -> None:
        entry = self._entry
        due_ns = entry.first_due_ns + self._offsets_ns[-1]
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        if due_ns > now_ns:
            self._wake_at(due_ns, now_ns)
            return
        self._journal.wrote(entry, due_ns=due_ns, now_ns=now_ns, tokens=self._tokens)
        if self._fault is None:
            self._finish(self._whole())
        else:
            self._do_fault(self._fault)

    def _whole(self) -> bytes:
        """Return the whole response of a question that is not streamed."""
        request_id = self._entry.request_id
        body = self._script.body(
            request_id=request_id, model=self._model, tokens=self._tokens
        )
        response = json_response(
            200, body, request_id=request_id, closes=not self._keeps_alive
        )
        if self._content_type:
            return response.replace(b"application/json", self._content_type.encode(), 1)
        return response

    def _do_fault(self, fault: Fault) -> None:
        self._fault = None
        whole = b"" if self._stream else self._whole()
        half = whole[: len(whole) // 2]
        kind = fault.kind
        if kind == "reset-mid":
            self._transport.write(half)
            # The bytes before it are on their way first.
            self._timer = self._loop.call_soon(self._reset)
        elif kind == "half-close":
            # The chunk says more than comes.
            self._transport.write(half or b"ff\r\ndata: {")
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._end(keeps_alive=False)
        elif kind == "truncate":
            if self._stream:
                self._finish(END_OF_BODY)
            else:
                self._transport.write(half)
                self._end(keeps_alive=False)
        elif kind == "stall":
            self._transport.write(half)
            self._unscheduled = True
            self._stop_at = self._tokens
            after = (
                self._write_tokens
                if self._stream
                else lambda: self._finish(whole[len(half) :])
            )
            self._timer = self._loop.call_later(fault.seconds, after)
        elif kind == "drip":
            self._drops = whole or self._rest()
            self._drop_s = fault.seconds
            self._drip()
        else:
            self._break_frame(fault)

    def _break_frame(self, fault: Fault) -> None:
        """Write something that is no answer where an answer is expected."""
        request_id = self._entry.request_id
        error = {"error_code": "INTERNAL_ERROR", "message": "the agent broke"}
        if not self._stream:
            if fault.kind in {"error-event", "untyped-error"}:
                self._finish(json_response(200, {"error": error}))
                return
            body = self._script.body(
                request_id=request_id, model=self._model, tokens=self._tokens
            )
            cut = str(body).encode()[:-1]
            self._finish(whole_response(200, "application/json", cut))
        elif fault.kind == "error-event":
            event = {"type": "error", "code": "INTERNAL_ERROR", "message": "it broke"}
            self._finish(chunk(frame_of(event)) + END_OF_BODY)
        elif fault.kind == "untyped-error":
            self._finish(chunk(frame_of({"error": "the agent broke"})) + END_OF_BODY)
        else:
            frame = BROKEN_FRAME
            if fault.kind == "oversized":
                frame = b"data: " + b"x" * fault.frame_bytes
            self._transport.write(chunk(frame))
            self._stop_at = self._tokens
            self._write_tokens()

    def _rest(self) -> bytes:
        """Return all of a stream that is not written yet."""
        entry, script = self._entry, self._script
        frames = [
            script.token(index, request_id=entry.request_id)
            for index in range(entry.tokens_sent, self._tokens)
        ]
        tail = script.tail(
            request_id=entry.request_id, model=self._model, tokens=self._tokens
        )
        return b"".join([*frames, tail, END_OF_BODY])

    def _drip(self) -> None:
        drop, self._drops = self._drops[:1], self._drops[1:]
        if not self._drops:
            self._finish(drop)
            return
        self._transport.write(drop)
        self._timer = self._loop.call_later(self._drop_s, self._drip)

    def _reset(self) -> None:
        reset(self._transport)
        self._on_end(False)  # noqa: FBT003 - its one argument

    def _wake_at(self, due_ns: int, now_ns: int) -> None:
        self._timer = self._loop.call_later(
            (due_ns - now_ns) / NS_PER_S, self._write_what_is_due
        )

    def _finish(self, last_bytes: bytes) -> None:
        self._entry.finished = True
        self._transport.write(last_bytes)
        self._end(keeps_alive=self._keeps_alive)

    def _end(self, *, keeps_alive: bool) -> None:
        self._on_end(keeps_alive)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST instead of FIN."""
    found = transport.get_extra_info("socket")
    if found is not None:
        linger_none = struct.pack("ii", 1, 0)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    transport.abort()
