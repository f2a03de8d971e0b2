"""The answer as it comes: text in pieces, and what follows the first of them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from harness.agents import errors
from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient

DELTA = '{"type":"response.output_text.delta","item_id":"m","delta":"%s"}'
BUSY = ("503 Service Unavailable", b'{"error_code": "TEMPORARILY_UNAVAILABLE"}')


def frame(data):
    return b"data: " + data.encode() + b"\n\n"


@pytest.fixture
def client_of(make_server):
    clients = []

    def make(*scripts, **options):
        server = make_server(*scripts)
        client = AgentClient(
            base_url=server.base_url,
            token=SecretStr("t"),
            model="ka-1-endpoint",
            **{"timeout_s": 5.0, **options},
        )
        client.server = server
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_text_comes_in_pieces_and_the_answer_after_it(client_of, wire):
    client = client_of(wire.events(DELTA % "a", DELTA % "b", "[DONE]"))
    with client.stream("why?") as stream:
        assert "".join(stream) == "ab"
        answer = stream.answer
    assert answer.text == "ab"
    assert [attempt.status for attempt in answer.attempts] == [200]


def test_first_piece_is_there_before_the_answer_ends(client_of, wire):
    script = [wire.head(), frame(DELTA % "first"), wire.HANG]
    with client_of(script).stream("why?") as stream:
        assert next(iter(stream)) == "first"
        assert stream.text == "first"


def test_answer_reads_what_was_not_iterated(client_of, wire):
    client = client_of(wire.events(DELTA % "a", DELTA % "b", "[DONE]"))
    with client.stream("why?") as stream:
        assert stream.answer.text == "ab"


def test_retries_end_with_the_first_text(client_of, wire):
    broken = [wire.head(), frame(DELTA % "part")]
    client = client_of(
        wire.whole(*BUSY, headers=b"Retry-After: 0\r\n"), broken, max_retries=3
    )
    with client.stream("why?") as stream:
        with pytest.raises(errors.AgentStreamTruncatedError) as raised:
            list(stream)
        assert raised.value.partial_text == "part"
        assert [a.status for a in raised.value.attempts] == [503, None]
    assert len(client.server.requests) == 2


def test_stream_left_early_has_no_answer_and_ends_the_request(client_of, wire):
    script = [wire.head(), frame(DELTA % "first"), wire.HANG]
    client = client_of(script)
    with client.stream("why?") as stream:
        next(iter(stream))
    with pytest.raises(errors.AgentCallError, match="before its end"):
        _ = stream.answer


def test_deadline_holds_when_another_thread_reads_on(client_of, wire):
    """Web frameworks take each piece in whichever thread is free."""
    client = client_of([wire.head(), frame(DELTA % "x"), wire.DRIP], timeout_s=0.5)
    stream = client.stream("why?")
    pieces = iter(stream)
    assert next(pieces) == "x"
    with ThreadPoolExecutor(1) as other:
        assert other.submit(threading.get_ident).result() != threading.get_ident()
        with pytest.raises(errors.AgentTimeoutError, match=r"0\.5 s"):
            other.submit(list, pieces).result()


def test_silence_is_told_apart_from_the_deadline(client_of, wire):
    client = client_of(
        [wire.head(), frame(DELTA % "x"), wire.HANG], timeout_s=30, silence_s=0.2
    )
    with pytest.raises(errors.AgentTimeoutError, match=r"nothing came for 0\.2 s"):
        client.ask("why?")


def test_silence_is_not_retried_unless_asked(client_of, wire):
    scripts = [wire.HANG], wire.events(DELTA % "a", "[DONE]")
    client = client_of(*scripts, timeout_s=30, silence_s=0.2, max_retries=2)
    with pytest.raises(errors.AgentTimeoutError):
        client.ask("why?")
    client = client_of(
        *scripts, timeout_s=30, silence_s=0.2, max_retries=2, retry_timeouts=True
    )
    assert client.ask("why?").text == "a"


async def read_in_loop(base_url, *, leave_early=False):
    async with (
        AsyncAgentClient(
            base_url=base_url,
            token=SecretStr("t"),
            model="ka-1-endpoint",
            timeout_s=5.0,
        ) as client,
        await client.stream("why?") as stream,
    ):
        pieces = []
        async for piece in stream:
            pieces.append(piece)
            if leave_early:
                return pieces, None
        return pieces, await stream.answer()


def test_event_loops_stream_too(make_server, wire):
    server = make_server(wire.events(DELTA % "a", DELTA % "b", "[DONE]"))
    pieces, answer = asyncio.run(read_in_loop(server.base_url))
    assert "".join(pieces) == answer.text == "ab"


def test_stream_left_early_in_a_loop_ends_the_request(make_server, wire):
    server = make_server([wire.head(), frame(DELTA % "first"), wire.HANG])
    pieces, _ = asyncio.run(read_in_loop(server.base_url, leave_early=True))
    assert pieces == ["first"]


def test_cancelled_question_lets_the_loop_go_on(make_server, wire):
    server = make_server([wire.head(), wire.HANG])

    async def run():
        async with AsyncAgentClient(
            base_url=server.base_url, token=SecretStr("t"), model="ka-1-endpoint"
        ) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.ask("why?"), 0.2)

    asyncio.run(run())
