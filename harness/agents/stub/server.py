"""The stub's server: an asyncio protocol that writes every token when it is due."""

from __future__ import annotations

import asyncio
import hmac
import json
import select
import selectors
from typing import TYPE_CHECKING, Any

from harness.agents.stub.http1 import (
    RejectedError,
    Request,
    RequestReader,
    json_response,
    stream_head,
)
from harness.agents.stub.journal import Entry, Journal
from harness.agents.stub.script import Script
from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.agents.stub.plan import StubPlan

PREFIX = "/serving-endpoints/"
ADMIN_PREFIX = "/stub/"
# Pipelined requests are answered in turn; a client that floods is cut off.
BACKLOG_BYTES_MAX = 8 * 1024 * 1024
BATCH_TOKENS_MAX = 64


class StubServer:
    """What all connections of one stub share.

    Args:
        plan: What to answer and when.
        token: The only bearer token accepted.
    """

    def __init__(self, *, plan: StubPlan, token: str) -> None:
        self.plan = plan
        self.script = Script(plan)
        self.journal = Journal()
        self._authorization = f"Bearer {token}".encode("latin-1")
        self._requests_seen = 0

    def authorize(self, request: Request) -> None:
        """Check the bearer token.

        Raises:
            RejectedError: If it is missing or another one.
        """
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            raise RejectedError(
                401,
                "UNAUTHENTICATED",
                "Credential was not sent or was of an unsupported type for this API.",
            )

    def next_index(self) -> int:
        """Return the index of the next question."""
        index = self._requests_seen
        self._requests_seen += 1
        return index

    def reset(self) -> None:
        """Begin a new run: an empty journal, and the timing's seed from its start."""
        self.journal = Journal()
        self._requests_seen = 0


class StubProtocol(asyncio.Protocol):
    """One connection.

    Args:
        server: What it shares with the others.
    """

    def __init__(self, server: StubServer) -> None:
        self._server = server
        self._reader = RequestReader()
        self._backlog = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answer: _Answer | None = None
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        if not isinstance(transport, asyncio.Transport):
            msg = "the stub serves stream sockets only"
            raise TypeError(msg)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop an answer that nobody reads any more."""
        del exc
        self._transport = None
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None

    def pause_writing(self) -> None:
        """Hold the answer back: the client reads too slowly."""
        if self._answer is not None:
            self._server.journal.stalls_count += 1
            self._answer.pause()

    def resume_writing(self) -> None:
        """Go on with an answer that was held back."""
        if self._answer is not None:
            self._answer.resume()

    def data_received(self, data: bytes) -> None:
        """Answer the requests as they become whole, one after the other."""
        received_ns = SYSTEM_CLOCK.monotonic_ns()
        if self._answer is not None:
            self._backlog += data
            if len(self._backlog) > BACKLOG_BYTES_MAX and self._transport is not None:
                self._transport.abort()
            return
        self._reader.feed(data)
        self._serve(received_ns)

    def finished(self, *, keeps_alive: bool) -> None:
        """Go on with the next request, called when an answer is written."""
        self._answer = None
        if self._transport is None:
            return
        if not keeps_alive:
            self._close()
            return
        if self._serving:
            return  # an answer without delay; the loop that began it goes on
        waiting, self._backlog = bytes(self._backlog), bytearray()
        self._reader.feed(waiting)
        self._serve(SYSTEM_CLOCK.monotonic_ns())

    def _serve(self, received_ns: int) -> None:
        self._serving = True
        while self._answer is None and self._transport is not None:
            try:
                request = self._reader.next_request()
                if request is None:
                    if self._reader.wants_continue:
                        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    break
                self._dispatch(request, received_ns)
            except RejectedError as error:
                self._reject(error)
        self._serving = False

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _reject(self, error: RejectedError) -> None:
        self._server.journal.rejected[error.error_code] += 1
        if self._transport is None:
            return
        body = {"error_code": error.error_code, "message": str(error)}
        self._transport.write(json_response(error.status, body, closes=error.closes))
        if error.closes:
            self._close()

    def _dispatch(self, request: Request, received_ns: int) -> None:
        transport = self._transport
        if transport is None:
            return
        server = self._server
        server.authorize(request)
        if request.path.startswith(ADMIN_PREFIX):
            body = _administer(server, request)
            transport.write(json_response(200, body))
            return
        model, stream = _read_question(request)
        index = server.next_index()
        request_id = f"stub-{index:08d}"
        first_due_ns = received_ns + server.plan.ttft_ns(index)
        entry = Entry(
            request_id=request_id, received_ns=received_ns, first_due_ns=first_due_ns
        )
        server.journal.begin(entry)
        self._answer = _Answer(
            protocol=self,
            transport=transport,
            server=server,
            entry=entry,
            model=model,
            keeps_alive=request.keeps_alive,
            stream=stream,
        )
        self._answer.start()


class _Answer:
    """One answer under way, on an absolute schedule: no delay adds up."""

    def __init__(
        self,
        *,
        protocol: StubProtocol,
        transport: asyncio.Transport,
        server: StubServer,
        entry: Entry,
        model: str,
        keeps_alive: bool,
        stream: bool,
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._journal = server.journal
        self._script = server.script
        self._itl_ns = server.plan.itl_ns
        self._tokens = server.plan.tokens
        self._entry = entry
        self._model = model
        self._keeps_alive = keeps_alive
        self._stream = stream
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Write the head of a stream and wait for the first token's time."""
        if self._stream:
            entry = self._entry
            self._transport.write(
                stream_head(request_id=entry.request_id)
                + self._script.head(request_id=entry.request_id, model=self._model)
            )
        self._write_what_is_due()

    def cancel(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None:
        """Hold back until `resume`."""
        self.cancel()

    def resume(self) -> None:
        """Go on; what became due meanwhile is written at once."""
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
        while entry.tokens_sent < self._tokens:
            due_ns = entry.first_due_ns + entry.tokens_sent * self._itl_ns
            now_ns = SYSTEM_CLOCK.monotonic_ns()
            if due_ns > now_ns:
                self._wake_at(due_ns, now_ns)
                break
            if len(frames) == BATCH_TOKENS_MAX:
                self._timer = self._loop.call_soon(self._write_what_is_due)
                break
            frames.append(script.token(entry.tokens_sent, request_id=request_id))
            journal.wrote(entry, due_ns=due_ns, now_ns=now_ns)
        if frames:
            self._transport.write(b"".join(frames))
        if entry.tokens_sent == self._tokens:
            self._finish(script.tail(request_id=request_id, model=self._model))

    def _write_body(self) -> None:
        entry = self._entry
        due_ns = entry.first_due_ns + (self._tokens - 1) * self._itl_ns
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        if due_ns > now_ns:
            self._wake_at(due_ns, now_ns)
            return
        self._journal.wrote(entry, due_ns=due_ns, now_ns=now_ns, tokens=self._tokens)
        body = self._script.body(request_id=entry.request_id, model=self._model)
        self._finish(
            json_response(
                200, body, request_id=entry.request_id, closes=not self._keeps_alive
            )
        )

    def _wake_at(self, due_ns: int, now_ns: int) -> None:
        self._timer = self._loop.call_later(
            (due_ns - now_ns) / NS_PER_S, self._write_what_is_due
        )

    def _finish(self, last_bytes: bytes) -> None:
        self._entry.finished = True
        self._transport.write(last_bytes)
        self._protocol.finished(keeps_alive=self._keeps_alive)


if hasattr(selectors, "EpollSelector"):

    class _PreciseSelector(selectors.EpollSelector):
        """Sleeps to the microsecond: epoll alone rounds up to the millisecond."""

        def select(
            self, timeout: float | None = None
        ) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are as exact as the system allows."""
    if hasattr(selectors, "EpollSelector"):
        return asyncio.SelectorEventLoop(_PreciseSelector())
    return asyncio.new_event_loop()


def _administer(server: StubServer, request: Request) -> dict[str, Any]:
    """Serve the stub's own paths, which the platform does not have."""
    action = (request.method, request.path.removeprefix(ADMIN_PREFIX))
    if action == ("GET", "journal"):
        return server.journal.statement().to_mapping()
    if action == ("POST", "reset"):
        server.reset()
        return {}
    raise RejectedError(404, "ENDPOINT_NOT_FOUND", f"no {request.path} here")


def _read_question(request: Request) -> tuple[str, bool]:
    """Return (model, whether to stream) of a question.

    Raises:
        RejectedError: If the path, the verb or the body is not a question.
    """
    route = request.path.removeprefix(PREFIX)
    name = route.removesuffix("/invocations")
    by_model = route == "responses"
    if not request.path.startswith(PREFIX) or not (
        by_model or (route.endswith("/invocations") and name and "/" not in name)
    ):
        raise RejectedError(
            404, "ENDPOINT_NOT_FOUND", f"no serving endpoint at {request.path}"
        )
    if request.method != "POST":
        raise RejectedError(405, "BAD_REQUEST", f"{request.method} is not allowed")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        msg = "Bad request: the body is not JSON"
        raise RejectedError(400, "MALFORMED_REQUEST", msg) from error
    if not isinstance(body, dict):
        raise RejectedError(
            400, "MALFORMED_REQUEST", "Bad request: the body is not a JSON object"
        )
    model = body.get("model") if by_model else name
    if not isinstance(model, str) or not model:
        raise RejectedError(400, "INVALID_PARAMETER_VALUE", "Missing model")
    question = body.get("input")
    if not isinstance(question, (list, str)) or not question:
        raise RejectedError(400, "INVALID_PARAMETER_VALUE", "Missing input")
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise RejectedError(
            400, "INVALID_PARAMETER_VALUE", "stream must be true or false"
        )
    return model, stream
