"""Whether a Docker engine answers is found out in about a second, without Docker."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import TargetError
from harness.postgres.engine import PROBE_TIMEOUT_S, find_engine
from harness.postgres.targets import start


@pytest.fixture
def fake_engine(tmp_path_factory):
    """Listen on a Unix socket; answer each request with what a path is mapped to."""
    closers = []

    def listen(answers):
        path = str(tmp_path_factory.mktemp("d") / "engine.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen()

        def serve():
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        answer(connection)

        def answer(connection):
            target = connection.recv(65536).split()[1].decode()
            status, body = next(
                (a for path, a in answers.items() if path in target),
                (500, b'{"message": "out of order"}'),
            )
            connection.sendall(
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n"
                "Content-Type: application/json\r\nConnection: close\r\n\r\n".encode()
                + body
            )

        thread = threading.Thread(target=serve)
        if answers is not None:
            thread.start()
            closers.append(thread.join)
        closers.append(listener.close)
        closers.append(lambda: listener.shutdown(socket.SHUT_RDWR))
        return f"unix://{path}"

    yield listen
    for close in reversed(closers):
        with suppress(OSError):
            close()


def test_engine_that_answers_is_found(fake_engine):
    url = fake_engine({"/_ping": (200, b"OK")})
    assert find_engine({"DOCKER_HOST": url}).url == url


def test_engine_of_the_user_is_found(fake_engine):
    url = fake_engine({"/_ping": (200, b"OK")})
    folder = url.removeprefix("unix://").rpartition("/")[0]
    # Both of these may be there, or not, on the machine that runs the tests.
    found = find_engine({"XDG_RUNTIME_DIR": folder, "HOME": folder}).url
    assert found in {None, "unix:///var/run/docker.sock"}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("unix:///nowhere/docker.sock", "No such file"),
        ("tcp://127.0.0.1:1", "refused"),
    ],
)
def test_engine_that_is_not_there_is_said(url, problem):
    engine = find_engine({"DOCKER_HOST": url})
    assert engine.url is None
    assert problem in engine.problem
    assert "DOCKER_HOST" in engine.problem


def test_engine_that_is_out_of_order_is_not_taken(fake_engine):
    engine = find_engine({"DOCKER_HOST": fake_engine({})})
    assert engine.url is None
    assert "status 500" in engine.problem


def test_engine_that_hangs_costs_about_a_second(fake_engine):
    url = fake_engine(None)
    started_ns = SYSTEM_CLOCK.monotonic_ns()
    assert find_engine({"DOCKER_HOST": url}).url is None
    waited_s = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_S
    assert PROBE_TIMEOUT_S * 0.9 < waited_s < PROBE_TIMEOUT_S + 2


def test_auto_falls_back_when_the_engine_cannot_help(
    fake_engine, make_settings, monkeypatch
):
    """An engine that answers and gives no Postgres is a warning under `auto`."""
    pytest.importorskip("testcontainers")
    monkeypatch.setenv("DOCKER_HOST", fake_engine({"/_ping": (200, b"OK")}))
    server, warning = start(make_settings())
    try:
        assert server.info.target == "embedded"
        assert "Docker answers" in server.info.reason
        assert "out of order" in warning
        assert "embedded Postgres instead" in warning
    finally:
        server.close()


def test_docker_by_name_is_an_error_when_the_engine_cannot_help(
    fake_engine, make_settings, monkeypatch
):
    pytest.importorskip("testcontainers")
    monkeypatch.setenv("DOCKER_HOST", fake_engine({"/_ping": (200, b"OK")}))
    with pytest.raises(TargetError, match="out of order"):
        start(make_settings({"--target": "docker"}))


def test_docker_by_name_without_an_engine_says_what_else(make_settings, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(TargetError, match=r"start Docker, or use --target=embedded"):
        start(make_settings({"--target": "docker"}))
