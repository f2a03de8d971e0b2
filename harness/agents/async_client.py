"""A client of Knowledge Assistant serving endpoints, for event loops."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from harness.agents.client import NOT_TOLD, not_installed
from harness.agents.core import ClientCore
from harness.agents.errors import AgentCallError, AgentNotReadyError
from harness.agents.exchange import ERROR_BODY_BYTES_MAX, HTTP_OK, Exchange
from harness.agents.questions import Route, route_of_task
from harness.agents.readiness import (
    READY_TIMEOUT_S,
    STATE_POLL_S,
    EndpointState,
    read_state,
    refuse_failed,
)
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from harness.agents.answer import Answer
    from harness.agents.deadline import Deadline
    from harness.agents.retry import Course
    from harness.agents.transport import Outgoing
    from harness.settings.proxy import Proxy


class AsyncAgentClient(ClientCore):
    """Asks a serving endpoint from an event loop, over connections kept open.

    `ClientCore` says what it takes; its methods do what those of `AgentClient` do.
    """

    def _open(
        self,
        *,
        keeps_open: bool,
        ssl_context: ssl.SSLContext | None,
        proxy: Proxy | None,
    ) -> None:
        try:
            from harness.agents.async_transport import AsyncTransport
        except ModuleNotFoundError as error:
            raise not_installed(error) from error
        self._transport = AsyncTransport(
            authorize=self._header,
            ssl_context=ssl_context,
            keeps_open=keeps_open,
            proxy=proxy,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def ask(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        stream: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Ask and return the whole answer; see `AgentClient.ask`.

        Raises:
            AgentCallError: If there is no usable answer.
        """
        deadline = self._deadline()
        course = self._course(deadline)
        outgoing = self._outgoing(
            question, route=await self._settle_route(), stream=stream, extra=extra
        )
        while True:
            exchange = self._exchange(deadline)
            course.before()
            try:
                async with aclosing(
                    self._pieces(outgoing, exchange, deadline)
                ) as pieces:
                    async for _ in pieces:
                        pass
            except AgentCallError as error:
                await self._wait_after(error, course, exchange)
            else:
                return exchange.builder.build(attempts=course.succeeded())

    async def stream(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> AsyncAnswerStream:
        """Ask and return the answer as it comes; see `AgentClient.stream`.

        Use it as `async with await client.stream(...) as stream`.

        Raises:
            AgentCallError: If no text comes; after it, iterating raises.
        """
        deadline = self._deadline()
        course = self._course(deadline)
        outgoing = self._outgoing(
            question, route=await self._settle_route(), stream=True, extra=extra
        )
        while True:
            exchange = self._exchange(deadline)
            course.before()
            pieces = self._pieces(outgoing, exchange, deadline)
            try:
                first = ""
                async for piece in pieces:
                    if piece:
                        first = piece
                        break
            except AgentCallError as error:
                await self._wait_after(error, course, exchange)
            except BaseException:
                await pieces.aclose()
                raise
            else:
                return AsyncAnswerStream(first, pieces, exchange, course)

    async def state(self) -> EndpointState:
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
                body = await self._body(outgoing, exchange, deadline)
                state = read_state(body, model=self.model)
            except AgentCallError as error:
                await self._wait_after(error, course, exchange)
            else:
                course.succeeded()
                return state

    async def wait_ready(
        self,
        *,
        timeout_s: float = READY_TIMEOUT_S,
        on_progress: Callable[[EndpointState, float], object] | None = None,
    ) -> EndpointState:
        """Wait until the endpoint takes questions; see `AgentClient.wait_ready`.

        Raises:
            AgentCallError: If it is not ready in time, or will not be.
        """
        started_ns = self._clock.monotonic_ns()
        while True:
            state = await self.state()
            waited_s = (self._clock.monotonic_ns() - started_ns) / NS_PER_S
            if on_progress is not None:
                on_progress(state, waited_s)
            if state.ready:
                return state
            refuse_failed(state)
            if waited_s + STATE_POLL_S > timeout_s:
                msg = f"not ready after {waited_s:.0f} s: {state.describe()}"
                raise AgentNotReadyError(msg)
            await asyncio.sleep(STATE_POLL_S)

    async def _header(self) -> str:
        if self._authorization.blocks:
            return await asyncio.to_thread(self._authorization.header)
        return self._authorization.header()

    async def _settle_route(self) -> Route:
        """Return the route, asked for once where the name does not tell it."""
        if self._route == "auto":
            try:
                self._route = route_of_task((await self.state()).task)
            except AgentCallError as error:
                if error.status not in NOT_TOLD:
                    raise
                # One may be allowed to ask an endpoint and not to look at it; and
                # not everything that answers questions has a state to tell.
                self._route = "responses"
        return self._route

    async def _wait_after(
        self, error: AgentCallError, course: Course, exchange: Exchange
    ) -> None:
        wait_s = course.after(error, has_content=exchange.builder.has_content)
        if course.must_renew:
            await asyncio.to_thread(self._authorization.renew)
        await asyncio.sleep(wait_s)

    async def _pieces(
        self, outgoing: Outgoing, exchange: Exchange, deadline: Deadline
    ) -> AsyncGenerator[str]:
        """Send, and yield the text as it comes."""
        with exchange:
            async with await self._transport.send(outgoing, deadline) as response:
                kind = exchange.begin(response.status, response.headers)
                if kind == "stream":
                    async with aclosing(response.chunks()) as chunks:
                        async for chunk in chunks:
                            yield exchange.feed(chunk)
                    yield exchange.end()
                elif kind == "body":
                    yield exchange.whole(await response.read())
                else:
                    body = await response.read(bytes_max=ERROR_BODY_BYTES_MAX)
                    raise exchange.refused(body)

    async def _body(
        self, outgoing: Outgoing, exchange: Exchange, deadline: Deadline
    ) -> bytes:
        """Send, and return the whole body of a response that is no answer."""
        with exchange:
            async with await self._transport.send(outgoing, deadline) as response:
                exchange.begin(response.status, response.headers)
                body = await response.read()
                if response.status != HTTP_OK:
                    raise exchange.refused(body)
        return body


class AsyncAnswerStream:
    """An answer as it comes: iterate its text, then await `answer()`."""

    def __init__(
        self,
        first: str,
        pieces: AsyncGenerator[str],
        exchange: Exchange,
        course: Course,
    ) -> None:
        self._first = first
        self._pieces = pieces
        self._exchange = exchange
        self._course = course
        self._answer: Answer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self.aclose()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._exchange.builder.text

    async def answer(self) -> Answer:
        """Return the whole answer; what has not been iterated yet is read now.

        Raises:
            AgentCallError: If the rest does not come.
        """
        async for _ in self:
            pass
        if self._answer is None:
            msg = "the stream was closed before its end"
            raise AgentCallError(msg, partial_text=self.text)
        return self._answer

    async def __aiter__(self) -> AsyncGenerator[str]:
        """Yield the text in the pieces it came in.

        Raises:
            AgentCallError: If the rest does not come; `partial_text` has the text.
        """
        first, self._first = self._first, ""
        if first:
            yield first
        try:
            async for piece in self._pieces:
                if piece:
                    yield piece
        except AgentCallError as error:
            self._course.gave_up(error)
            raise
        if self._answer is None and self._exchange.finished:
            self._answer = self._exchange.builder.build(
                attempts=self._course.succeeded()
            )

    async def aclose(self) -> None:
        """End the request; safe to call twice."""
        await self._pieces.aclose()
