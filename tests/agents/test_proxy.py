"""Requests through an HTTP proxy: a real one on loopback, asked with CONNECT."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from harness.agents import errors
from harness.agents.async_client import AsyncAgentClient
from harness.agents.client import AgentClient
from harness.errors import ConfigError
from harness.settings import load_settings
from harness.settings.proxy import Proxy, proxy_for

PASSWORD = "canary p%ss:word"
QUOTED = "canary%20p%25ss%3Aword"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@dataclass
class ConnectProxy:
    """Connects as CONNECT asks, or forwards; refuses who has not *credentials*."""

    credentials: str | None = None
    refusal: bytes | None = None
    heads: list[bytes] = field(default_factory=list)

    def __enter__(self):
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_exc_info):
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _serve(self):
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        tasks = set()

        async def take(reader, writer):
            tasks.add(asyncio.current_task())
            try:
                await self._take(reader, writer)
            except (
                ConnectionError,
                asyncio.IncompleteReadError,
                asyncio.CancelledError,
            ):
                pass  # the client went away, or the test is over
            finally:
                writer.close()

        server = await asyncio.start_server(take, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._done.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        refusal = self.refusal
        if self.credentials is not None:
            basic = base64.b64encode(self.credentials.encode())
            if b"Proxy-Authorization: Basic " + basic not in head:
                refusal = b"407 Proxy Authentication Required"
        if refusal is not None:
            writer.write(b"HTTP/1.1 " + refusal + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        method, target, rest = head.split(b" ", 2)
        if method != b"CONNECT":
            _, _, target, path = target.split(b"/", 3)
            head = b" ".join((method, b"/" + path, rest))
        host, _, port = target.decode().rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            back.write(head)
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            back.close()


async def pump(source, sink):
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


def ask(kind, *, streams=(True,), **arguments):
    if kind == "thread":
        with AgentClient(**arguments) as client:
            return [client.ask("why?", stream=stream) for stream in streams]

    async def in_loop():
        async with AsyncAgentClient(**arguments) as client:
            return [await client.ask("why?", stream=stream) for stream in streams]

    return asyncio.run(in_loop())


def endpoint(stub, **options):
    return {
        "base_url": stub.base_url,
        "token": stub.token,
        "model": stub.model,
        "ca_pem": stub.ca_pem,
        "timeout_s": 20.0,
        **options,
    }


kinds = pytest.mark.parametrize("kind", ["thread", "loop"])


@kinds
def test_questions_go_through_one_tunnel_that_sees_no_token(make_agent_stub, kind):
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0, tls="on")
    with ConnectProxy(credentials=f"me:{PASSWORD}") as server:
        url = server.address.replace("//", f"//me:{QUOTED}@")
        arguments = endpoint(stub, proxy=Proxy.from_url(url))
        answers = ask(kind, streams=(True, False), **arguments)
    assert answers[0].text == answers[1].text
    assert len(server.heads) == 1, "the tunnel is kept open"
    assert server.heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert stub.token.get_secret_value().encode() not in server.heads[0]
    assert stub.statement().requests_count == 2


@kinds
def test_plain_http_is_forwarded(make_agent_stub, kind):
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0)
    with ConnectProxy() as server:
        ask(kind, **endpoint(stub, proxy=Proxy.from_url(server.address)))
    assert server.heads[0].startswith(b"POST http://127.0.0.1:")
    assert stub.statement().requests_count == 1


@kinds
def test_proxy_password_is_in_no_message_and_no_log(make_agent_stub, kind, caplog):
    caplog.set_level(logging.DEBUG)
    stub = make_agent_stub(tls="on")
    pair = f"me:{PASSWORD}"
    basic = base64.b64encode(pair.encode()).decode()
    # It tells what it was told, as some do.
    refusal = f"407 not for {basic} {PASSWORD}".encode()
    with ConnectProxy(refusal=refusal) as server:
        url = server.address.replace("//", f"//me:{QUOTED}@")
        proxy = Proxy.from_url(url)
        arguments = endpoint(stub, proxy=proxy, max_retries=2)
        with pytest.raises(errors.AgentProxyError, match="407 not for") as raised:
            ask(kind, **arguments)
    assert len(server.heads) == 1, "a refusal is not asked for again"
    assert basic.encode() in server.heads[0]
    shown = f"{raised.value!r} {proxy!r} {arguments!r}"
    for secret in (PASSWORD, basic):
        assert secret not in shown
        # The engine's own log holds what a proxy said: the reason it gave.
        logged = [r for r in caplog.records if r.name.startswith("harness")]
        assert secret not in str([r.getMessage() for r in logged])


@kinds
@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"503 Busy"])
def test_proxy_that_cannot_reach_the_endpoint_is_asked_again(
    make_agent_stub, kind, status
):
    stub = make_agent_stub(tls="on")
    with ConnectProxy(refusal=status) as server:
        proxy = Proxy.from_url(server.address)
        with pytest.raises(errors.AgentConnectionError, match="through the proxy"):
            ask(kind, **endpoint(stub, proxy=proxy, max_retries=1, retry_delay_s=0.0))
    assert len(server.heads) == 2


def test_client_from_settings_takes_the_proxy_of_the_environment(
    make_agent_stub, monkeypatch, tmp_path
):
    stub = make_agent_stub(ttft_s=0.0, itl_s=0.0, tls="on")
    settings = load_settings(
        environ={
            "DATABRICKS_TOKEN": stub.token.get_secret_value(),
            "DATABRICKS_BASE_URL": stub.base_url,
            "DATABRICKS_MODEL": stub.model,
        },
        cwd=tmp_path,
        root=tmp_path,
    )
    with ConnectProxy() as server:
        monkeypatch.setenv("HTTPS_PROXY", server.address)
        with AgentClient.from_settings(settings.agent, ca_pem=stub.ca_pem) as client:
            client.ask("why?")
        assert len(server.heads) == 1
        monkeypatch.setenv("NO_PROXY", "example.com,127.0.0.1")
        with AgentClient.from_settings(settings.agent, ca_pem=stub.ca_pem) as client:
            client.ask("why?")
        assert len(server.heads) == 1, "NO_PROXY names the host"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTP_PROXY": "http://p:1"}, None),
        ({"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ({"https_proxy": "p:1"}, "http://p:1"),
        ({"ALL_PROXY": "https://p"}, "https://p:443"),
        ({"HTTPS_PROXY": "http://[::1]:8"}, "http://[::1]:8"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".databricks.com"}, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "bricks.com"}, "http://p:1"),
    ],
)
def test_proxy_is_the_one_the_environment_names(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for("https://dbc-1.cloud.databricks.com/serving-endpoints")
    assert (found and found.address) == expected


@pytest.mark.parametrize(
    "url",
    [
        "socks5://me:canary@p:1",
        "http://me:canary@p:port",
        "http://me:canary@",
        "http://me:canary@p:1/path",
        "http://me:canary@[::1",
    ],
)
def test_proxy_that_cannot_be_used_is_refused_without_being_shown(monkeypatch, url):
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ConfigError, match="HTTPS_PROXY must be http://") as raised:
        proxy_for("https://x/serving-endpoints")
    assert "canary" not in str(raised.value)
    assert raised.value.__context__ is None


def test_proxy_password_is_decoded_and_never_shown():
    proxy = Proxy.from_url(f"http://me:{QUOTED}@p:1")
    assert proxy.password == SecretStr(PASSWORD)
    assert "canary" not in repr(proxy)
    assert "me" not in repr(proxy)
