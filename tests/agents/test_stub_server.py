"""The stub's server, spoken to in bytes."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest

from harness.agents.stub.plan import StubPlan
from harness.agents.stub.process import AgentStub

QUESTION = {"model": "ka-1-endpoint", "input": [{"role": "user", "content": "why?"}]}


@pytest.fixture(scope="module")
def stub():
    with AgentStub(StubPlan(ttft_s=0.0, itl_s=0.0, tokens=5, block_tokens=2)) as stub:
        yield stub


@pytest.fixture
def connection(stub):
    port = int(stub.base_url.split(":")[2].split("/")[0])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as sock:
        yield Connection(sock, stub.token.get_secret_value())


class Connection:
    def __init__(self, sock, token):
        self.sock = sock
        self.token = token

    def request(
        self,
        body=QUESTION,
        path="/serving-endpoints/responses",
        *,
        method="POST",
        token=None,
        extra="",
    ):
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\n{extra}"
            f"Authorization: Bearer {token or self.token}\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        ).encode() + payload

    def send(self, data):
        self.sock.sendall(data)

    def receive(self):
        """(status, headers, body) of the next response."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.sock.recv(1)
        head = data.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), headers, self._body(headers)

    def _body(self, headers):
        if headers.get("transfer-encoding") != "chunked":
            return self._exactly(int(headers.get("content-length", 0)))
        body = b""
        while True:
            size = b""
            while not size.endswith(b"\r\n"):
                size += self.sock.recv(1)
            data = self._exactly(int(size, 16) + 2)
            if data == b"\r\n":
                return body
            body += data[:-2]

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            assert more, "closed early"
            data += more
        return data

    def is_closed(self):
        return self.sock.recv(1) == b""

    def ask(self, *args, **kwargs):
        self.send(self.request(*args, **kwargs))
        return self.receive()


def data_of(body):
    frames = body.decode().split("\n\n")
    assert frames.pop() == ""
    assert all(frame.startswith("data: ") for frame in frames)
    return [frame.removeprefix("data: ") for frame in frames]


def test_stream_is_as_the_platform_sends_it(connection):
    status, headers, body = connection.ask(QUESTION | {"stream": True})
    *events, end = data_of(body)
    kinds = [json.loads(event)["type"] for event in events]

    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert b"event:" not in body
    assert end == "[DONE]"
    assert kinds == [
        *["response.output_text.delta"] * 5,
        *["response.output_text.annotation.added"] * 3,
        "response.output_item.done",
        "response.completed",
    ]
    item = json.loads(events[8])
    assert item["databricks_output"]["databricks_request_id"] == headers["x-request-id"]
    deltas = "".join(json.loads(event)["delta"] for event in events[:5])
    assert deltas == "".join(part["text"] for part in item["item"]["content"])
    assert len(item["item"]["content"]) == 3


def test_whole_answer_is_the_item_of_the_stream(connection):
    _, _, streamed = connection.ask(QUESTION | {"stream": True})
    status, headers, body = connection.ask(QUESTION)
    answer = json.loads(body)
    item = json.loads(data_of(streamed)[8])["item"]

    assert status == 200
    assert headers["content-type"] == "application/json"
    assert answer["output"][0]["content"] == item["content"]
    assert answer["usage"]["output_tokens"] == 5


def test_invocations_names_the_model_in_its_path(connection):
    question = {"input": "why?"}
    status, _, body = connection.ask(
        question, "/serving-endpoints/ka-2-endpoint/invocations"
    )
    assert status == 200
    assert json.loads(body)["model"] == "ka-2-endpoint"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"token": "another"}, 401, "UNAUTHENTICATED"),
        ({"path": "/serving-endpoints/a/b/invocations"}, 404, "ENDPOINT_NOT_FOUND"),
        ({"path": "/serving-endpoints//invocations"}, 404, "ENDPOINT_NOT_FOUND"),
        ({"path": "/api/2.0/anything"}, 404, "ENDPOINT_NOT_FOUND"),
        ({"path": "/stub/nothing"}, 404, "ENDPOINT_NOT_FOUND"),
        ({"method": "GET"}, 405, "BAD_REQUEST"),
        ({"body": b"{half"}, 400, "MALFORMED_REQUEST"),
        ({"body": b"[]"}, 400, "MALFORMED_REQUEST"),
        ({"body": b"\xff"}, 400, "MALFORMED_REQUEST"),
        ({"body": b"[" * 100_000}, 400, "MALFORMED_REQUEST"),
        ({"body": {"model": "m"}}, 400, "INVALID_PARAMETER_VALUE"),
        ({"body": {"input": "x"}}, 400, "INVALID_PARAMETER_VALUE"),
        ({"body": QUESTION | {"stream": "yes"}}, 400, "INVALID_PARAMETER_VALUE"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusal_has_the_platforms_body_and_keeps_the_connection(
    connection, change, status, code
):
    got_status, _, body = connection.ask(**change)
    assert (got_status, json.loads(body)["error_code"]) == (status, code)
    assert json.loads(body)["message"]
    assert connection.ask()[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"\x16\x03\x01 a TLS hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 4194305\r\n\r\n", 413),
        (b"GET /" + b"x" * 70_000, 431),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_bytes_that_are_no_request_are_refused_and_end_the_connection(
    connection, raw, status
):
    connection.send(raw)
    assert connection.receive()[0] == status
    assert connection.is_closed()


def test_request_may_come_byte_by_byte(connection):
    for byte in connection.request():
        connection.send(bytes([byte]))
    assert connection.receive()[0] == 200


def test_pipelined_requests_are_answered_in_turn(connection):
    """Deep on purpose: an answer without delay must not nest the next one."""
    connection.send(connection.request(QUESTION | {"stream": True}) * 1500)
    ids = [connection.receive()[1]["x-request-id"] for _ in range(1500)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 1500


def test_client_that_waits_for_continue_gets_it(connection):
    head, _, body = connection.request(extra="Expect: 100-continue\r\n").partition(
        b"\r\n\r\n"
    )
    connection.send(head + b"\r\n\r\n")
    assert connection.receive()[0] == 100
    connection.send(body)
    assert connection.receive()[0] == 200


def test_connection_is_closed_when_the_client_asks_for_it(connection):
    assert connection.ask(extra="Connection: close\r\n")[0] == 200
    assert connection.is_closed()


def test_journal_counts_what_was_refused(stub, connection):
    stub.reset()
    connection.ask(token="another")
    connection.ask()
    statement = stub.statement()
    assert statement.rejected == {"UNAUTHENTICATED": 1}
    assert statement.requests_count == 1
    assert statement.tokens_sent == 5


def test_answer_that_nobody_reads_is_stopped_and_not_finished():
    with AgentStub(StubPlan(ttft_s=0.0, itl_s=0.05, tokens=1000)) as stub:
        port = int(stub.base_url.split(":")[2].split("/")[0])
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        with closing(sock):
            talk = Connection(sock, stub.token.get_secret_value())
            talk.send(talk.request(QUESTION | {"stream": True}))
            assert sock.recv(10)
        (entry,) = stub.statement().entries
        assert not entry.finished
        assert 1 <= entry.tokens_sent < 1000


def test_slow_reader_is_counted_and_still_gets_everything():
    # More than the socket buffers of both sides hold.
    tokens = 100_000
    with AgentStub(StubPlan(ttft_s=0.0, itl_s=0.0, tokens=tokens)) as stub:
        port = int(stub.base_url.split(":")[2].split("/")[0])
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        with closing(sock):
            talk = Connection(sock, stub.token.get_secret_value())
            question = QUESTION | {"stream": True}
            talk.send(talk.request(question, extra="Connection: close\r\n"))
            while not stub.statement().stalls_count:
                assert stub.statement().tokens_sent < tokens
            body = b""
            while more := sock.recv(1 << 20):
                body += more
        (entry,) = stub.statement().entries
    assert body.count(b"output_text.delta") == tokens
    assert entry.finished
