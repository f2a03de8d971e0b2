"""What do agent clients, ours and others, cost on top of the bytes they move?"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from http.client import HTTPConnection
from statistics import median
from urllib.parse import urlsplit

import httpcore2
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK

QUESTION = "How many connections does a pool hold?"
TOKENS = 50
# Fewer say too little of two clients that are so near to each other.
ROUNDS_MIN = 100
CALLS = 10  # of one client in a row, before the next one's turn
LONG_TOKENS = 500
# Time added to a raw socket's, ours over theirs.
OPENAI_RATIO_TARGET = 0.5
HTTP_LIBRARY_RATIO_TARGET = 1.3
# CPU time per stream event, ours over theirs.
EVENT_RATIO_TARGET = 0.25


@pytest.fixture
def stub(make_agent_stub):
    """A stub that answers at once, so that only the client takes time."""
    return make_agent_stub(ttft_s=0.0, itl_s=0.0, tokens=TOKENS)


@pytest.mark.benchmark(group="agent-client-overhead")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_call_without_delay(benchmark, stub, make_agent, stream):
    """One call over a connection kept open, one caller: the client's own cost."""
    agent = make_agent(stub)

    answer = benchmark(agent.ask, QUESTION, stream=stream)

    assert answer.usage.output_tokens == TOKENS


@pytest.mark.benchmark(group="agent-client-overhead")
def test_call_without_client(benchmark, stub):
    """The same call by http.client and json alone: the floor under the others."""
    address = urlsplit(stub.base_url)
    connection = HTTPConnection(address.hostname, address.port)
    body = json.dumps({"model": stub.model, "input": QUESTION})
    headers = {"Authorization": f"Bearer {stub.token.get_secret_value()}"}

    @benchmark
    def answer():
        connection.request("POST", f"{address.path}/responses", body, headers)
        return json.loads(connection.getresponse().read())

    connection.close()
    assert answer["usage"]["output_tokens"] == TOKENS


@pytest.mark.benchmark(group="agent-client-overhead")
def test_call_through_databricks_openai(benchmark, stub):
    """The same call by Databricks' own client, where it can be installed."""
    pytest.importorskip(
        "databricks_openai",
        reason="needs databricks-openai, which wants older openai and databricks-sdk",
    )
    with ExitStack() as stack:
        call = sdk_callers(stub, stack)["databricks_openai"]
        assert benchmark(call) == raw_caller(stub, stack)()


@pytest.mark.benchmark(group="agent-client-added-time")
def test_added_time_beside_other_clients(stub, make_agent, sized, record_durations):
    """Ours, the HTTP library it stands on, the openai SDK and a raw socket, in turn.

    Every round is a few calls of each, so that a busy moment hits all of them; a
    ratio is the median over the rounds. The compared value is our client's call.
    """
    agent = make_agent(stub)
    with ExitStack() as stack:
        callers = {
            "raw": raw_caller(stub, stack),
            "http_library": library_caller(stub, stack),
            "ours": lambda: agent.ask(QUESTION, stream=False).text,
            **sdk_callers(stub, stack),
        }
        texts = {name: call() for name, call in callers.items()}
        in_turn(callers, rounds=2, calls=CALLS)  # connections and caches are warm now
        rounds = sized(full=200, smoke=10)
        times_s = in_turn(callers, rounds=rounds, calls=CALLS)

    assert len(set(texts.values())) == 1, "every client read the same answer"
    added_by_round_s = added_to_raw_s(times_s)
    added_s = {name: median(values) for name, values in added_by_round_s.items()}
    ratios = {
        f"ours_over_{name}": round(paired_ratio(added_by_round_s, name), 3)
        for name in added_by_round_s
        if name != "ours"
    }
    record_durations(
        times_s["ours"],
        measure="call_time",
        wall_s=sum(map(sum, times_s.values())),
        details={
            "raw_us": round(median(times_s["raw"]) * 1e6),
            **{f"{name}_added_us": round(s * 1e6) for name, s in added_s.items()},
            **ratios,
            "not_installed": sorted({"openai", "databricks_openai"} - set(callers)),
            "ours_over_openai_target": OPENAI_RATIO_TARGET,
            "ours_over_http_library_target": HTTP_LIBRARY_RATIO_TARGET,
        },
    )
    if rounds >= ROUNDS_MIN:
        assert ratios["ours_over_http_library"] <= HTTP_LIBRARY_RATIO_TARGET
    if "openai" in added_s:
        assert ratios["ours_over_openai"] <= OPENAI_RATIO_TARGET


@pytest.mark.benchmark(group="agent-client-stream-event")
def test_cpu_time_per_stream_event(
    make_agent_stub, make_agent, sized, record_durations
):
    """An answer of 500 deltas in one burst: CPU time of reading one, beside openai's.

    One value is the mean over the events of an answer.
    """
    openai = pytest.importorskip("openai", reason="needs openai (extra: contenders)")
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0, tokens=LONG_TOKENS)
    agent = make_agent(stub)
    with openai.OpenAI(
        api_key=stub.token.get_secret_value(), base_url=stub.base_url, max_retries=0
    ) as sdk:
        callers = {
            "ours": lambda: len(agent.ask(QUESTION).timing.token_ns),
            "openai": lambda: sum(
                event.type == "response.output_text.delta"
                for event in sdk.responses.create(
                    model=stub.model, input=QUESTION, stream=True
                )
            ),
        }
        counts = {name: call() for name, call in callers.items()}
        times_s = in_turn(
            callers,
            rounds=sized(full=40, smoke=3),
            calls=1,
            now_ns=SYSTEM_CLOCK.process_cpu_ns,
        )

    assert counts == {"ours": LONG_TOKENS, "openai": LONG_TOKENS}
    per_event_s = {
        name: [value / LONG_TOKENS for value in values]
        for name, values in times_s.items()
    }
    ratio = median(per_event_s["ours"]) / median(per_event_s["openai"])
    record_durations(
        per_event_s["ours"],
        measure="cpu_time_per_event",
        wall_s=sum(map(sum, times_s.values())),
        details={
            "ours_us": round(median(per_event_s["ours"]) * 1e6, 2),
            "openai_us": round(median(per_event_s["openai"]) * 1e6, 2),
            "ours_over_openai": round(ratio, 3),
            "ours_over_openai_target": EVENT_RATIO_TARGET,
        },
    )
    assert ratio <= EVENT_RATIO_TARGET


def in_turn(callers, *, rounds, calls, now_ns=SYSTEM_CLOCK.monotonic_ns):
    """Return the seconds of every call by caller; callers take turns."""
    times_s = {name: [] for name in callers}
    for _ in range(rounds):
        for name, call in callers.items():
            for _ in range(calls):
                from_ns = now_ns()
                call()
                times_s[name].append((now_ns() - from_ns) / NS_PER_S)
    return times_s


def added_to_raw_s(times_s):
    """Return what each client added to the socket's call, round by round.

    A round's value is the median of its calls: one that was interrupted is not it.
    """
    by_round_s = {
        name: [
            median(values[start : start + CALLS])
            for start in range(0, len(values), CALLS)
        ]
        for name, values in times_s.items()
    }
    raw_s = by_round_s.pop("raw")
    return {
        name: [value - raw for value, raw in zip(values, raw_s, strict=True)]
        for name, values in by_round_s.items()
    }


def paired_ratio(added_by_round_s, name):
    """Return the median over the rounds of ours over another's of the same round."""
    pairs = zip(added_by_round_s["ours"], added_by_round_s[name], strict=True)
    return median(ours / other for ours, other in pairs if other > 0)


def body_of(stub):
    items = [{"role": "user", "content": QUESTION}]
    body = {"model": stub.model, "input": items, "stream": False}
    return json.dumps(body, separators=(",", ":")).encode()


def text_of(body):
    content = json.loads(body)["output"][0]["content"]
    return "".join(block["text"] for block in content)


def raw_caller(stub, stack):
    """A socket and json: nothing can be asked for less."""
    address, body = urlsplit(stub.base_url), body_of(stub)
    sock = stack.enter_context(
        socket.create_connection((address.hostname, address.port))
    )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = (
        f"POST {address.path}/responses HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {stub.token.get_secret_value()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    def call():
        sock.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += sock.recv(65536)
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(rest) < length:
            rest += sock.recv(65536)
        return text_of(rest)

    return call


def library_caller(stub, stack):
    """httpcore2, on which our client stands, and json."""
    pool = stack.enter_context(httpcore2.ConnectionPool())
    body = body_of(stub)
    headers = {
        "Host": urlsplit(stub.base_url).netloc,
        "Authorization": f"Bearer {stub.token.get_secret_value()}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    url = f"{stub.base_url}/responses"

    def call():
        response = pool.request("POST", url, headers=headers, content=body)
        assert response.status == 200
        return text_of(response.content)

    return call


def sdk_callers(stub, stack):
    """The SDKs that are installed."""
    callers = {}
    token = stub.token.get_secret_value()
    try:
        import openai
    except ModuleNotFoundError:
        return callers
    sdk = stack.enter_context(
        openai.OpenAI(api_key=token, base_url=stub.base_url, max_retries=0)
    )
    callers["openai"] = lambda: (
        sdk.responses.create(model=stub.model, input=QUESTION).output_text
    )
    try:
        from databricks.sdk import WorkspaceClient
        from databricks_openai import DatabricksOpenAI
    except ModuleNotFoundError:
        return callers
    host = stub.base_url.removesuffix("/serving-endpoints")
    databricks = stack.enter_context(
        DatabricksOpenAI(workspace_client=WorkspaceClient(host=host, token=token))
    )
    callers["databricks_openai"] = lambda: (
        databricks.responses.create(model=stub.model, input=QUESTION).output_text
    )
    return callers
