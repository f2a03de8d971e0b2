"""A client of Knowledge Assistant serving endpoints, for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from harness.agents.core import ClientCore
from harness.agents.errors import AgentCallError, AgentNotReadyError
from harness.agents.exchange import ERROR_BODY_BYTES_MAX, HTTP_OK, Exchange
from harness.agents.questions import Route, require_endpoint, route_of_task
from harness.agents.readiness import (
    READY_TIMEOUT_S,
    STATE_POLL_S,
    EndpointState,
    read_state,
    refuse_failed,
)
from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.agents.answer import Answer
    from harness.agents.deadline import Deadline
    from harness.agents.retry import Course
    from harness.agents.transport import Outgoing
    from harness.settings.proxy import Proxy

__all__ = ["AgentClient", "AnswerStream", "require_endpoint"]


class AgentClient(ClientCore):
    """Asks a serving endpoint, over connections kept open; safe to share by threads.

    `ClientCore` says what it takes.
    """

    def _open(
        self,
        *,
        keeps_open: bool,
        ssl_context: ssl.SSLContext | None,
        proxy: Proxy | None,
    ) -> None:
        try:
            from harness.agents.transport import Transport
        except ModuleNotFoundError as error:
            raise not_installed(error) from error
        self._transport = Transport(
            authorize=self._authorization.header,
            ssl_context=ssl_context,
            keeps_open=keeps_open,
            proxy=proxy,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def ask(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        stream: bool = True,
        extra: Mapping[str, Any] | None = None,
        on_event: Callable[[str, int], object] | None = None,
    ) -> Answer:
        """Ask and return the whole answer.

        Args:
            question: A question, or `input` items (a conversation) as they are.
            stream: Whether to have the answer streamed, with the time of every
                token; otherwise it comes in one body.
            extra: Further members of the request, such as
                `{"databricks_options": {"return_trace": True}}`.
            on_event: Called with the data of every stream event, as it came, and
                when it was read.

        Raises:
            AgentCallError: If there is no usable answer; see `harness.agents.errors`.
        """
        deadline = self._deadline()
        course = self._course(deadline)
        outgoing = self._outgoing(
            question, route=self._settle_route(), stream=stream, extra=extra
        )
        while True:
            exchange = self._exchange(deadline, on_event)
            course.before()
            try:
                for _ in self._pieces(outgoing, exchange, deadline):
                    pass
            except AgentCallError as error:
                self._wait_after(error, course, exchange)
            else:
                return exchange.builder.build(attempts=course.succeeded())

    def stream(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> AnswerStream:
        """Ask and return the answer as it comes, once its first text is there.

        Use it in a `with` block, which ends the request when it is left early.

        Args:
            question: See `ask`.
            extra: Likewise.

        Raises:
            AgentCallError: If no text comes; after it, iterating raises.
        """
        deadline = self._deadline()
        course = self._course(deadline)
        outgoing = self._outgoing(
            question, route=self._settle_route(), stream=True, extra=extra
        )
        while True:
            exchange = self._exchange(deadline)
            course.before()
            pieces = self._pieces(outgoing, exchange, deadline)
            try:
                first = next((piece for piece in pieces if piece), "")
            except AgentCallError as error:
                self._wait_after(error, course, exchange)
            else:
                return AnswerStream(first, pieces, exchange, course)

    def state(self) -> EndpointState:
        """Return what the workspace says of the endpoint.

        Raises:
            AgentCallError: If it does not say.
        """
        deadline = self._deadline()
        course = self._course(deadline)
        outgoing = self._state_request()
        while True:
            exchange = self._exchange(deadline)
            course.before()
            try:
                body = self._body(outgoing, exchange, deadline)
                state = read_state(body, model=self.model)
            except AgentCallError as error:
                self._wait_after(error, course, exchange)
            else:
                course.succeeded()
                return state

    def wait_ready(
        self,
        *,
        timeout_s: float = READY_TIMEOUT_S,
        on_progress: Callable[[EndpointState, float], object] | None = None,
    ) -> EndpointState:
        """Wait until the endpoint takes questions, and return its state.

        Args:
            timeout_s: Longest wait, in seconds.
            on_progress: Called with the state and the seconds waited, at each look.

        Raises:
            AgentNotReadyError: If it is not ready in time.
            AgentEndpointFailedError: If it will not be, because its update failed.
            AgentCallError: If the workspace does not tell.
        """
        started_ns = self._clock.monotonic_ns()
        while True:
            state = self.state()
            waited_s = (self._clock.monotonic_ns() - started_ns) / NS_PER_S
            if on_progress is not None:
                on_progress(state, waited_s)
            if state.ready:
                return state
            refuse_failed(state)
            if waited_s + STATE_POLL_S > timeout_s:
                msg = f"not ready after {waited_s:.0f} s: {state.describe()}"
                raise AgentNotReadyError(msg)
            self._clock.sleep(STATE_POLL_S)

    def _settle_route(self) -> Route:
        """Return the route, asked for once where the name does not tell it."""
        if self._route == "auto":
            try:
                self._route = route_of_task(self.state().task)
            except AgentCallError as error:
                if error.status not in NOT_TOLD:
                    raise
                # One may be allowed to ask an endpoint and not to look at it; and
                # not everything that answers questions has a state to tell.
                self._route = "responses"
        return self._route

    def _wait_after(
        self, error: AgentCallError, course: Course, exchange: Exchange
    ) -> None:
        wait_s = course.after(error, has_content=exchange.builder.has_content)
        if course.must_renew:
            self._authorization.renew()
        self._clock.sleep(wait_s)

    def _pieces(
        self, outgoing: Outgoing, exchange: Exchange, deadline: Deadline
    ) -> Iterator[str]:
        """Send, and yield the text as it comes."""
        with exchange, self._transport.send(outgoing, deadline) as response:
            kind = exchange.begin(response.status, response.headers)
            if kind == "stream":
                for chunk in response.chunks():
                    yield exchange.feed(chunk)
                yield exchange.end()
            elif kind == "body":
                yield exchange.whole(response.read())
            else:
                body = response.read(bytes_max=ERROR_BODY_BYTES_MAX)
                raise exchange.refused(body)

    def _body(
        self, outgoing: Outgoing, exchange: Exchange, deadline: Deadline
    ) -> bytes:
        """Send, and return the whole body of a response that is no answer."""
        with exchange, self._transport.send(outgoing, deadline) as response:
            exchange.begin(response.status, response.headers)
            body = response.read()
            if response.status != HTTP_OK:
                raise exchange.refused(body)
        return body


class AnswerStream:
    """An answer as it comes: iterate its text, then take `answer`.

    Attributes:
        text: The text so far.
    """

    def __init__(
        self, first: str, pieces: Iterator[str], exchange: Exchange, course: Course
    ) -> None:
        self._first = first
        self._pieces = pieces
        self._exchange = exchange
        self._course = course
        self._answer: Answer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._exchange.builder.text

    @property
    def answer(self) -> Answer:
        """The whole answer; what has not been iterated yet is read now.

        Raises:
            AgentCallError: If the rest does not come.
        """
        for _ in self:
            pass
        if self._answer is None:
            msg = "the stream was closed before its end"
            raise AgentCallError(msg, partial_text=self.text)
        return self._answer

    def __iter__(self) -> Iterator[str]:
        """Yield the text in the pieces it came in.

        Raises:
            AgentCallError: If the rest does not come; `partial_text` has the text.
        """
        first, self._first = self._first, ""
        if first:
            yield first
        try:
            for piece in self._pieces:
                if piece:
                    yield piece
        except AgentCallError as error:
            self._course.gave_up(error)
            raise
        if self._answer is None and self._exchange.finished:
            self._answer = self._exchange.builder.build(
                attempts=self._course.succeeded()
            )

    def close(self) -> None:
        """End the request; safe to call twice."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


# Statuses of a workspace that does not tell the state of an endpoint.
NOT_TOLD = (403, 404, 405)


def not_installed(error: ModuleNotFoundError) -> ConfigError:
    """Return the error for a client without its HTTP engine."""
    msg = f"the agent client needs {error.name}: run `pip install 'lakegauge[agents]'`"
    return ConfigError(msg)
