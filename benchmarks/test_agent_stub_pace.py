"""How many streams can the agent stub serve before it is late?"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

import psutil
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK

STREAMS_SPREAD_S = 1.0
ITL_S = 0.02
P99_TARGET_MS = 5.0


@pytest.mark.benchmark(group="agent-stub-pace")
@pytest.mark.parametrize("streams", [100, 1000], ids="streams={:04d}".format)
def test_lateness_of_streams(make_agent_stub, sized, record_durations, streams):
    """Streams of 50 tokens a second that all run at once, the stub on one core.

    The compared value is the stub's own p99 of written minus due. A second process
    only reads the bytes; it counts them all.
    """
    tokens = sized(full=200, smoke=60)
    stub = make_agent_stub(ttft_s=STREAMS_SPREAD_S, itl_s=ITL_S, tokens=tokens)
    with apart(stub.pid):
        cpu_before_s = cpu_time_s(stub.pid)
        from_ns = SYSTEM_CLOCK.monotonic_ns()
        ends = asyncio.run(read_streams(stub, streams))
        wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
        cpu_s = cpu_time_s(stub.pid) - cpu_before_s
    statement = stub.statement()
    late = statement.lateness_ms

    assert ends == [True] * streams
    assert statement.tokens_sent == streams * tokens
    assert statement.stalls_count == 0
    record_durations(
        [late.p99 / 1000],
        measure="stub_lateness_p99",
        wall_s=wall_s,
        completed=streams,
        details={
            "lateness_ms_p50": round(late.p50, 3),
            "lateness_ms_p99": round(late.p99, 3),
            "lateness_ms_max": round(late.max, 3),
            "lateness_ms_p99_target": P99_TARGET_MS,
            "cpu_us_per_token": round(cpu_s / statement.tokens_sent * 1e6, 1),
            "stub_cpu_share": round(cpu_s / wall_s, 2),
        },
        invalid=None
        if late.p99 <= P99_TARGET_MS
        else f"the stub was late: p99 {late.p99:.1f} ms, target {P99_TARGET_MS} ms",
    )


class Reader(asyncio.Protocol):
    """Reads one answer and looks only for its end."""

    def __init__(self, request, ended):
        self._request = request
        self._ended = ended
        self._last = b""

    def connection_made(self, transport):
        """Keep where to write."""
        self._transport = transport

    def ask(self):
        """Send the question."""
        self._transport.write(self._request)

    def data_received(self, data):
        """Look for the end of the body."""
        self._last = (self._last + data)[-5:]
        if self._last == b"0\r\n\r\n":
            self._ended.set_result(True)

    def connection_lost(self, exc):
        """Note an answer that broke off."""
        del exc
        if not self._ended.done():
            self._ended.set_result(False)


async def read_streams(stub, count):
    """Open all connections, ask once on each within a second, read to the ends."""
    loop = asyncio.get_running_loop()
    address = urlsplit(stub.base_url)
    body = json.dumps({"model": stub.model, "input": "why?", "stream": True}).encode()
    request = (
        f"POST {address.path}/responses HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {stub.token.get_secret_value()}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    ended = [loop.create_future() for _ in range(count)]
    readers = [Reader(request, future) for future in ended]
    for reader in readers:
        await loop.create_connection(lambda r=reader: r, address.hostname, address.port)
    from_s = loop.time()
    for index, reader in enumerate(readers):
        await asyncio.sleep(from_s + index * STREAMS_SPREAD_S / count - loop.time())
        reader.ask()
    results = list(await asyncio.gather(*ended))
    for reader in readers:
        reader._transport.close()  # noqa: SLF001 - its own file's
    return results


class apart:  # noqa: N801 - reads as a statement
    """Keeps the stub and this process on a core each, where the system can."""

    def __init__(self, pid):
        self._stub, self._here = psutil.Process(pid), psutil.Process()

    def __enter__(self):
        self._cores = None
        with suppress(AttributeError, OSError):
            self._cores = self._here.cpu_affinity()
            first, *others = self._cores
            self._stub.cpu_affinity([first])
            self._here.cpu_affinity(others or [first])

    def __exit__(self, *exc_info):
        if self._cores:
            self._here.cpu_affinity(self._cores)


def cpu_time_s(pid):
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
