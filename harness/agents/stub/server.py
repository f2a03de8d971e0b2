"""The stub's server: an asyncio protocol that writes every token when it is due."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, cast

from harness.agents.stub.answering import Answering, reset
from harness.agents.stub.capacity import FullError, Slots, StartingError
from harness.agents.stub.faults import ERROR_CODES, Fault
from harness.agents.stub.http1 import (
    RejectedError,
    Request,
    RequestReader,
    json_response,
    whole_response,
)
from harness.agents.stub.identity import OPEN_PATHS, Identity
from harness.agents.stub.journal import Entry, Journal, Refusal
from harness.agents.stub.replay import ReplayScript
from harness.agents.stub.routes import (
    ADMIN_PREFIX,
    STATE_PREFIX,
    Question,
    read_question,
    state_of,
)
from harness.agents.stub.script import ChatScript, ResponsesScript, Script
from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.agents.stub.plan import StubPlan

# Pipelined requests are answered in turn; a client that floods is cut off.
BACKLOG_BYTES_MAX = 8 * 1024 * 1024
LOGIN_PAGE = b"<!doctype html><html><title>Sign in</title><pre>Sign in</pre></html>"


class StubServer:
    """What all connections of one stub share.

    Args:
        plan: What to answer and when.
        token: The bearer token that is always accepted.
        client_secret: Secret of the service principal the plan names.
    """

    def __init__(self, *, plan: StubPlan, token: str, client_secret: str) -> None:
        self.plan = plan
        self.origin = ""
        self.journal = Journal()
        self.identity = Identity(
            token=token,
            client_id=plan.client_id,
            client_secret=client_secret,
            ttl_s=plan.token_ttl_s,
            clock=SYSTEM_CLOCK,
        )
        self.slots = Slots(plan.capacity)
        self._responses = ResponsesScript(plan)
        self._chat = ChatScript(plan)
        self._replays = [ReplayScript(r, speed=plan.replay_speed) for r in plan.replay]
        self._began_ns: int | None = None
        self._requests_seen = 0

    def next_index(self, now_ns: int) -> int:
        """Return the index of the next question."""
        if self._began_ns is None:
            self._began_ns = now_ns
        index = self._requests_seen
        self._requests_seen += 1
        return index

    def script(self, question: Question, index: int) -> Script:
        """Return how a question is answered."""
        if self._replays:
            return self._replays[index % len(self._replays)]
        return self._chat if question.chat else self._responses

    def ttft_ns(self, script: Script, index: int) -> int:
        """Return the TTFT of a question."""
        if isinstance(script, ReplayScript):
            return script.ttft_ns
        return self.plan.ttft_ns(index)

    def fault_of(self, index: int, now_ns: int) -> Fault | None:
        """Return what to do wrong with a question."""
        at_s = (now_ns - (self._began_ns or now_ns)) / NS_PER_S
        for fault in self.plan.faults:
            if fault.strikes(index + 1, at_s=at_s, seed=self.plan.seed):
                return fault
        return None

    def reset(self) -> None:
        """Begin a new run: an empty journal, and everything seeded from its start."""
        self.journal = Journal()
        self.slots = Slots(self.plan.capacity)
        self._requests_seen = 0
        self._began_ns = None


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
        self._answer: Answering | None = None
        self._slots: Slots | None = None
        self._waiting = False
        self._serving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        # Not an instance of it under uvloop, though it has the methods.
        self._transport = cast("asyncio.Transport", transport)
        self._server.journal.connections_count += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop an answer that nobody reads any more."""
        del exc
        self._transport = None
        if self._answer is not None:
            self._answer.cancel()
            self._answer = None
        self._leave()

    def pause_writing(self) -> None:
        """Hold the answer back: the client reads too slowly."""
        if self._answer is not None:
            self._server.journal.stalls_count += 1
            self._answer.cancel()

    def resume_writing(self) -> None:
        """Go on with an answer that was held back."""
        if self._answer is not None:
            self._answer.resume()

    def data_received(self, data: bytes) -> None:
        """Answer the requests as they become whole, one after the other."""
        received_ns = SYSTEM_CLOCK.monotonic_ns()
        if self._busy:
            self._backlog += data
            if len(self._backlog) > BACKLOG_BYTES_MAX and self._transport is not None:
                self._transport.abort()
            return
        self._reader.feed(data)
        self._serve(received_ns)

    @property
    def _busy(self) -> bool:
        return self._answer is not None or self._waiting

    def _answered(self, keeps_alive: bool) -> None:  # noqa: FBT001 - one argument
        """Go on with the next request, called when an answer is written."""
        self._answer = None
        self._leave()
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

    def _leave(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.leave(SYSTEM_CLOCK.monotonic_ns())

    def _serve(self, received_ns: int) -> None:
        self._serving = True
        while not self._busy and self._transport is not None:
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
        self._write_error(error.status, error.error_code, str(error), error.closes)

    def _write_error(
        self,
        status: int,
        code: str,
        message: str,
        closes: bool = False,  # noqa: FBT001, FBT002 - private
        retry_after: str = "",
    ) -> None:
        if self._transport is None:
            return
        # The OAuth paths have a form of their own.
        body = (
            {"error": code, "error_description": message}
            if code.islower()
            else {"error_code": code, "message": message}
        )
        self._transport.write(
            json_response(status, body, closes=closes, retry_after=retry_after)
        )
        if closes:
            self._close()

    def _dispatch(self, request: Request, received_ns: int) -> None:
        transport, server = self._transport, self._server
        if transport is None:
            return
        if request.path in OPEN_PATHS:
            body = server.identity.serve(request, origin=server.origin)
            transport.write(json_response(200, body))
            return
        server.identity.authorize(request)
        if request.path.startswith(ADMIN_PREFIX):
            transport.write(json_response(200, _administer(server, request)))
        elif request.path.startswith(STATE_PREFIX):
            running = server.slots.is_running(received_ns)
            state = state_of(request, server.plan, running=running)
            transport.write(json_response(200, state))
        else:
            self._take_question(transport, request, received_ns)

    def _take_question(
        self, transport: asyncio.Transport, request: Request, received_ns: int
    ) -> None:
        server = self._server
        question = read_question(request)
        index = server.next_index(received_ns)
        fault = server.fault_of(index, received_ns)
        if fault is not None and self._refuse(fault, index, received_ns):
            return
        request_id = f"stub-{index:08d}"
        script = server.script(question, index)
        ttft_ns = server.ttft_ns(script, index)
        entry = Entry(
            request_id=request_id,
            received_ns=received_ns,
            first_due_ns=received_ns + ttft_ns,
            fault=fault.kind if fault else None,
        )
        answer = Answering(
            transport=transport,
            script=script,
            entry=entry,
            journal=server.journal,
            index=index,
            model=question.model,
            stream=question.stream,
            keeps_alive=request.keeps_alive,
            fault=fault,
            on_end=self._answered,
        )
        slots = server.slots

        def begin(at_ns: int) -> None:
            self._waiting = False
            self._slots = slots
            if self._transport is None:
                self._leave()  # it went away while it waited
                return
            entry.queued_ns = at_ns - received_ns if at_ns > received_ns else 0
            entry.first_due_ns = received_ns + entry.queued_ns + ttft_ns
            server.journal.begin(entry)
            self._answer = answer
            answer.start()

        try:
            at_once = slots.enter(
                received_ns, begin, takes_ns=ttft_ns + answer.takes_ns
            )
        except StartingError as error:
            wait_s = max(1, math.ceil(error.ready_in_s))
            self._refused(index, received_ns, 503, "", str(wait_s))
        except FullError as error:
            wait_s = max(1, math.ceil(error.free_in_s))
            self._refused(index, received_ns, 429, "", str(wait_s))
        else:
            self._waiting = not at_once and self._answer is None

    def _refuse(self, fault: Fault, index: int, received_ns: int) -> bool:
        """Do a fault that gives no answer; return whether it was one."""
        transport = self._transport
        if transport is None:
            return True
        kind = fault.kind
        if kind in {"status", "html", "expire-token"}:
            if kind == "expire-token":
                self._server.identity.revoke()
            status = 401 if kind == "expire-token" else fault.status
            page = LOGIN_PAGE if kind == "html" else b""
            self._refused(
                index,
                received_ns,
                status,
                fault.error_code,
                fault.retry_after,
                page=page,
            )
            return True
        if kind not in {"reset", "close", "hang"}:
            return False
        self._server.journal.refuse(
            Refusal(
                number=index + 1, received_ns=received_ns, status=0, error_code=kind
            )
        )
        if kind == "hang":
            self._waiting = True
        elif kind == "reset":
            reset(transport)
            self._transport = None
        else:
            self._close()
        return True

    def _refused(
        self,
        index: int,
        received_ns: int,
        status: int,
        code: str,
        retry_after: str,
        *,
        page: bytes = b"",
    ) -> None:
        code = code or ERROR_CODES.get(status, "")
        wait_s = float(retry_after) if retry_after.replace(".", "").isdigit() else None
        self._server.journal.refuse(
            Refusal(
                number=index + 1,
                received_ns=received_ns,
                status=status,
                error_code=code,
                retry_after_s=wait_s,
            )
        )
        if page and self._transport is not None:
            self._transport.write(
                whole_response(
                    status, "text/html; charset=utf-8", page, retry_after=retry_after
                )
            )
        elif not page:
            message = f"refused as planned ({status})"
            self._write_error(status, code, message, retry_after=retry_after)


def _administer(server: StubServer, request: Request) -> dict[str, Any]:
    """Serve the stub's own paths, which the platform does not have.

    Raises:
        RejectedError: If there is no such path.
    """
    action = (request.method, request.path.removeprefix(ADMIN_PREFIX))
    if action == ("GET", "journal"):
        minted = server.identity.minted_count
        return server.journal.statement(tokens_minted_count=minted).to_mapping()
    if action == ("POST", "reset"):
        server.reset()
        return {}
    if action == ("POST", "revoke"):
        server.identity.revoke()
        return {}
    raise RejectedError(404, "ENDPOINT_NOT_FOUND", f"no {request.path} here")
