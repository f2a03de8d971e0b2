"""One request and its response, judged as the bytes come; it does no I/O itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

from harness.agents.assembly import AnswerBuilder
from harness.agents.deadline import ConnectionLostError, DeadlinePassedError
from harness.agents.errors import (
    AgentBadResponseError,
    AgentCallError,
    AgentStreamTruncatedError,
    AgentTimeoutError,
    error_from_response,
)
from harness.agents.sse import FrameTooLargeError, SseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.agents.deadline import Deadline
    from harness.clock import Clock

ERROR_BODY_BYTES_MAX = 64 * 1024
# After the end marker only the closing bytes are due; a server that keeps them
# back costs the connection, not the answer.
CLOSING_TIMEOUT_S = 1.0
# No answer is so long; what goes on and on must not fill the memory.
STREAM_BYTES_MAX = 64 * 1024 * 1024
HTTP_OK = 200
_REQUEST_ID_HEADERS = ("x-databricks-request-id", "x-request-id")

Kind = Literal["refusal", "stream", "body"]


class Exchange:
    """What the bytes of one response mean, and what it means when they fail.

    Send and read in its `with` block: there a deadline that passes and a
    connection that breaks become the call's error, unless the answer was whole.

    Args:
        deadline: When the call must be over.
        clock: Source of every timestamp.
        origin: Address of the workspace.
        asked: The endpoint that was asked, as in `AgentCallError`.
        scrub: Takes the token out of what a server wrote.
        on_event: Called with the data of every stream event and when it was read.
    """

    def __init__(
        self,
        *,
        deadline: Deadline,
        clock: Clock,
        origin: str,
        scrub: Callable[[str], str],
        on_event: Callable[[str, int], object] | None = None,
        asked: str = "",
    ) -> None:
        self.builder = AnswerBuilder(
            sent_ns=clock.monotonic_ns(), origin=origin, asked=asked
        )
        self._deadline = deadline
        self._scrub = scrub
        self._on_event = on_event
        self._clock = clock
        self._parser = SseParser()
        self._status = 0
        self._bytes_count = 0
        self._headers: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: object
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, AgentCallError):
            error.rewrite(self._scrub)
            return False
        if isinstance(error, DeadlinePassedError):
            call_error: AgentCallError = self._timed_out()
        elif isinstance(error, ConnectionLostError):
            call_error = self._lost(error)
        else:
            return False
        if self.finished:
            return True
        call_error.rewrite(self._scrub)
        raise call_error from error

    @property
    def finished(self) -> bool:
        """Whether the end of the answer was seen."""
        return self.builder.finished

    def begin(self, status: int, headers: Mapping[str, str]) -> Kind:
        """Take the head of the response and say what its body is.

        Raises:
            AgentBadResponseError: If the body is no answer, such as a login page.
        """
        self._status, self._headers = status, headers
        for name in _REQUEST_ID_HEADERS:
            if name in headers:
                self.builder.request_id = headers[name]
                break
        if status != HTTP_OK:
            return "refusal"
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            msg = f"the answer is encoded as {encoding}, which was not asked for"
            raise AgentBadResponseError(msg, status=status)
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "text/event-stream":
            return "stream"
        if kind in {"application/json", ""}:
            return "body"
        msg = (
            f"agent endpoint answered 200 with {kind}, not an answer: "
            "a login page or a proxy in the way?"
        )
        raise AgentBadResponseError(msg, status=status)

    def refused(self, body: bytes) -> AgentCallError:
        """Return the error that a response other than 200 stands for."""
        return error_from_response(
            status=self._status,
            headers=self._headers,
            body=body,
            request_id=self.builder.request_id,
            clock=self._clock,
        )

    def whole(self, body: bytes) -> str:
        """Take a whole body; return its text."""
        return self.builder.add_body(body, self._clock.monotonic_ns())

    def feed(self, chunk: bytes) -> str:
        """Take the next bytes of a stream; return the text they bring.

        Raises:
            AgentCallError: If the stream reports a failure or is no stream.
        """
        at_ns = self._clock.monotonic_ns()
        add = self.builder.add_event
        self._bytes_count += len(chunk)
        if self._bytes_count > STREAM_BYTES_MAX:
            msg = f"the stream is longer than {STREAM_BYTES_MAX} bytes"
            raise AgentBadResponseError(msg, partial_text=self.builder.text)
        try:
            events = self._parser.feed(chunk)
            if self._on_event is not None:
                for event in events:
                    self._on_event(event.data, at_ns)
            news = [add(event.data, at_ns) for event in events]
        except FrameTooLargeError as error:
            msg = f"the stream holds {error}"
            partial = self.builder.text
            raise AgentBadResponseError(msg, partial_text=partial) from error
        if self.finished:
            self._deadline.shorten(CLOSING_TIMEOUT_S)
        return "".join(news)

    def end(self) -> str:
        """Take the end of a stream; return the text of an event it ended in.

        Raises:
            AgentStreamTruncatedError: If the answer had not ended.
        """
        rest = self._parser.close()
        news = ""
        if rest is not None and not self.finished:
            # Half an event is no bad event: the stream was cut, as said below.
            with suppress(AgentBadResponseError):
                news = self.builder.add_event(rest.data, self._clock.monotonic_ns())
        if not self.finished:
            msg = "the stream ended without its end marker"
            raise AgentStreamTruncatedError(
                msg,
                request_id=self.builder.request_id,
                partial_text=self.builder.text,
            )
        return news

    def _timed_out(self) -> AgentTimeoutError:
        return AgentTimeoutError(
            self._deadline.why(),
            request_id=self.builder.request_id,
            partial_text=self.builder.text,
        )

    def _lost(self, error: Exception) -> AgentStreamTruncatedError:
        return AgentStreamTruncatedError(
            f"the connection broke in the middle of the answer: {error}",
            request_id=self.builder.request_id,
            partial_text=self.builder.text,
        )
