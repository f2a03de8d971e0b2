"""Servers and settings of our own, whatever the machine's user has configured."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.postgres.embedded import start_embedded
from harness.settings import load_settings

PATIENCE_S = 30.0


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
