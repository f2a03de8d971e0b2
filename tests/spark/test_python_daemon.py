"""Forks of one process: what they inherit, and when they end."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.spark import python_daemon, python_parent

WAIT_S = 60.0
DAEMON = "pyspark.worker"


@pytest.fixture
def folder(tmp_path_factory):
    """A short path: that of a socket is limited to about a hundred characters."""
    return tmp_path_factory.mktemp("d")


@pytest.fixture
def start(folder):
    """Start what Spark would: a Python with arguments; all are ended at the end."""
    launcher = python_daemon.write_launcher(folder)
    started = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [launcher, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | python_daemon.ENVIRONMENT | environment,
            cwd=folder,
        )
        started.append(process)
        return process

    yield start

    for process in started:
        process.stdin.close()
        process.wait(WAIT_S)
        process.stdout.close()
        process.stderr.close()


def port_of(daemon):
    """Return where a daemon listens, which it says when it is ready."""
    return int.from_bytes(daemon.stdout.read(4), "big")


def is_true_soon(condition):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_daemons_are_forked_from_the_first(start):
    first = start("-m", python_daemon.MODULE, DAEMON)
    assert port_of(first) > 0
    second = start("-m", "pyspark.daemon", "pyspark.sql.worker.create_data_source")
    port = port_of(second)

    socket.create_connection(("127.0.0.1", port), timeout=WAIT_S).close()
    forks = psutil.Process(first.pid).children()
    # Each answers on its own; what was started for the second only waits.
    assert len(forks) == 2
    assert psutil.Process(second.pid).cmdline() == ["/bin/cat"]


def test_daemon_ends_when_its_input_does_and_the_others_go_on(start):
    first, second, third = (start("-m", python_daemon.MODULE, DAEMON) for _ in range(3))
    for each in (first, second, third):
        assert port_of(each) > 0
    forks = [
        fork
        for each in (first, second, third)
        for fork in psutil.Process(each.pid).children()
    ]

    first.stdin.close()
    first.wait(WAIT_S)

    assert len(forks) == 3
    assert is_true_soon(lambda: sum(fork.is_running() for fork in forks) == 2)
    assert [each.poll() for each in (second, third)].count(None) >= 1
    for each in (second, third):
        each.stdin.close()
    assert is_true_soon(lambda: not any(fork.is_running() for fork in forks))


def test_one_that_comes_after_the_first_has_ended_is_the_next_first(start):
    first = start("-m", python_daemon.MODULE, DAEMON)
    assert port_of(first) > 0
    first.stdin.close()
    first.wait(WAIT_S)

    assert port_of(start("-m", python_daemon.MODULE, DAEMON)) > 0


def test_worker_with_no_daemon_has_the_environment_it_was_started_with(start, folder):
    (folder / "pyspark_look.py").write_text("")
    package = folder / "elsewhere" / "pyspark"
    assert port_of(start("-m", python_daemon.MODULE, DAEMON)) > 0

    # Any module of pyspark that is a program will do; this one says its version.
    one = start("-m", "pyspark.find_spark_home", SPARK_HOME=str(package))

    assert one.stdout.read().decode().strip() == str(package)


def test_worker_with_no_daemon_is_killed_with_what_was_started_for_it(start):
    """One that hangs in a source would otherwise outlive its stream."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    first = start("-m", python_daemon.MODULE, DAEMON)
    assert port_of(first) > 0
    one = start(
        *("-m", "pyspark.sql.streaming.python_streaming_source_runner"),
        PYTHON_WORKER_FACTORY_PORT=str(port),
        PYTHON_WORKER_FACTORY_SECRET="secret",
    )
    listening.settimeout(WAIT_S)
    connection, _ = listening.accept()  # it now waits for an answer
    before = psutil.Process(first.pid).children()

    one.kill()

    assert len(before) == 2
    assert is_true_soon(lambda: len(psutil.Process(first.pid).children()) == 1)
    connection.close()
    listening.close()


def test_without_a_first_a_worker_with_no_daemon_runs_by_itself(start):
    one = start("-m", "pyspark.find_spark_home", SPARK_HOME="/somewhere")

    assert one.stdout.read().decode().strip() == "/somewhere"


def test_other_programs_are_run_as_they_are(start):
    assert start("-c", "print(6 * 7)").stdout.read() == b"42\n"


def test_process_with_threads_does_not_fork(monkeypatch, folder):
    """Forking a process with threads may hang its children for ever."""
    monkeypatch.setattr(python_parent, "IMPORTED", ())
    monkeypatch.setattr(python_parent, "threads_count", lambda: 2)
    monkeypatch.setattr(python_parent.os, "setpgid", lambda *_: None)
    monkeypatch.setattr(python_parent.os, "fork", lambda: pytest.fail("forked"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "s"))
    listening.listen()

    python_parent.serve(listening, DAEMON)

    assert listening.fileno() == -1


@pytest.mark.parametrize(
    ("once", "modules"),
    [(False, ["pyspark.daemon", DAEMON]), (True, [DAEMON])],
    ids=["daemon", "once"],
)
def test_what_cannot_be_forked_becomes_that_of_pyspark(monkeypatch, once, modules):
    became = []

    class ReplacedError(Exception):
        pass

    def replaced(_path, argv):
        became.append(argv)
        raise ReplacedError

    monkeypatch.setattr(python_daemon.os, "execv", replaced)

    with pytest.raises(ReplacedError):
        python_daemon.run_alone(DAEMON, once=once)

    assert became == [[sys.executable, "-m", *modules]]


def test_launcher_is_for_this_user_only(folder):
    assert Path(python_daemon.write_launcher(folder)).stat().st_mode & 0o077 == 0
