"""Servers and settings of our own, whatever the machine's user has configured."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress

import psutil
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.embedded import start_embedded
from harness.postgres.server import ConnectArguments
from harness.settings import load_settings

PATIENCE_S = 30.0
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104


@pytest.fixture(scope="session")
def make_settings(tmp_path_factory):
    """Settings from what a test says alone: no `.env`, no environment."""
    empty = tmp_path_factory.mktemp("empty")

    def make(overrides=None, **environ):
        return load_settings(overrides, environ=environ, cwd=empty, root=empty)

    return make


@pytest.fixture(scope="session")
def embedded(make_settings):
    server = start_embedded(make_settings(), reason="for a test")
    yield server
    server.close()


@pytest.fixture
def start_own(make_settings):
    """Start further embedded servers; `environ` are settings."""
    servers = []

    def start(**environ):
        server = start_embedded(make_settings(**environ), reason="for a test")
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def refuse():
    """Start servers that answer every login with one SQLSTATE."""
    with ExitStack() as servers:

        def start(sqlstate, **words):
            server = servers.enter_context(RefusingServer(sqlstate, **words))
            server.arguments = ConnectArguments(
                host="127.0.0.1", port=server.port, user="u", sslmode="disable"
            )
            return server

        yield start


@pytest.fixture
def eventually():
    """Wait until a condition holds; fail if it never does."""

    def wait(condition, *, what):
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(PATIENCE_S * NS_PER_S)
        while not condition():
            assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, f"never: {what}"
            SYSTEM_CLOCK.sleep(0.02)

    return wait


@pytest.fixture
def run_script():
    """Run a Python script in its own process group; its first line is JSON."""
    started = []

    def run(text, *, python=sys.executable, **popen):
        process = subprocess.Popen(
            [python, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **popen,
        )
        started.append(process)
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        return process, json.loads(line)

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.fixture
def is_running():
    def check(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return check


class RefusingServer:
    """Refuses every login with one SQLSTATE, in words of the test's choice.

    Its words say nothing of the kind: whoever goes by them goes wrong.
    """

    def __init__(self, sqlstate, *, severity="FATAL", words="nope"):
        self.logins = 0
        self._answer = error_response(severity, sqlstate, words)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._refuse(client)

    def _refuse(self, client):
        client.settimeout(10)
        while True:
            (size,) = struct.unpack("!i", read_exactly(client, 4))
            body = read_exactly(client, size - 4)
            if struct.unpack("!i", body[:4])[0] not in {SSL_REQUEST, GSS_REQUEST}:
                break
            client.sendall(b"N")
        self.logins += 1
        client.sendall(self._answer)


def error_response(severity, sqlstate, words):
    fields = {"S": severity, "V": "FATAL", "C": sqlstate, "M": words}
    body = b"".join(
        key.encode() + text.encode() + b"\0" for key, text in fields.items()
    )
    body += b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


def read_exactly(client, size):
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise ConnectionError("the client went away")
        data += part
    return data
