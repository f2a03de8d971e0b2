"""A folder of reports made by the journal, and the command that serves it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from websockets.sync.client import connect as watch

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.lakebase.service import LakebaseService
from harness.monitor.app import make_app
from harness.monitor.live_api import subject_of
from harness.reports.journal import Journal
from harness.reports.live import LiveData
from harness.reports.record import BLOCK
from harness.reports.store import next_report_path, write_report
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
)
from harness.settings import load_settings

PATIENCE_S = 30
COMMAND = Path(sys.executable).with_name("lakegauge")
MACHINE_ID = "Linux-CPython-3.11-64bit"
MACHINE_INFO = {
    "system": "Linux",
    "machine": "x86_64",
    "cpu_brand": "A processor",
    "cpu_count": 2,
    "python_implementation": "CPython",
    "python_minor": "3.11",
    "python_version": "3.11.7",
}


def record_of(name="test_a", *, group="g", scale=1.0, count=400, facts=None, **about):
    """A record as a run writes it: its numbers are computed from durations."""
    durations_s = [scale * 0.001 * (index + 1) for index in range(count)]
    measurement = measurement_of_durations(
        durations_s, measure="ttft", wall_s=2.0, **about
    )
    values_s = np.asarray(durations_s)
    block = case_block(measurement, facts=facts or {})
    extra = measured_stats(measurement)
    return {
        "group": group,
        "name": name,
        "fullname": f"benchmarks/test_x.py::{name}",
        "params": None,
        "param": None,
        "extra_info": {BLOCK: block.model_dump(mode="json", exclude_none=True)},
        "options": {},
        "stats": exact_stats(values_s) | extra,
    }


class Reports:
    """A folder of reports; each run starts an hour after the one before."""

    def __init__(self, folder):
        self.folder = folder
        self._start = datetime(2026, 1, 1, tzinfo=UTC)

    record = staticmethod(record_of)

    def journal(self, *records, pid=None, smoke=False, clock=None, **machine):
        self._start += timedelta(hours=1)
        journal = Journal(
            self.folder,
            pid=os.getpid() if pid is None else pid,
            header={
                "machine_info": MACHINE_INFO | machine,
                "commit_info": {"id": "0123456789", "dirty": False},
                "version": "5.2.3",
            },
            smoke=smoke,
            clock=clock or ManualClock(self._start),
        )
        for record in records:
            journal.add(record)
        return journal

    def save(self, *records, name="x", machine_id=MACHINE_ID, failed=(), **about):
        journal = self.journal(*records, **about)
        for case in failed:
            journal.add_failed(case, "failed in call")
        path = next_report_path(self.folder, machine_id, name)
        write_report(path, journal.document(complete=True))
        journal.discard()
        return path

    def write(self, text, name="0099_bad.json"):
        path = self.folder / MACHINE_ID / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def reports(tmp_path):
    return Reports(tmp_path / "reports")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    text: str

    def json(self):
        return json.loads(self.text)


class Server:
    """The real command on a free port."""

    def __init__(self, process, base):
        self.process = process
        self.base = base

    def get(self, path, **headers):
        request = urllib.request.Request(self.base + path, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            answer = opener.open(request, timeout=20)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, names, answer.read().decode())


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts the monitor over a folder of reports."""
    processes = []

    def start(folder, *arguments):
        folder.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [
                *(COMMAND, "monitor", "serve", "--port=0", "--reports", folder),
                *arguments,
            ],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            # Or the line that names the port would stay in a buffer.
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("http://"), line
        return Server(process, line.split()[0].removesuffix("/dashboard"))

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until(condition, *, what):
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
    while not condition():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, f"never: {what}"
        SYSTEM_CLOCK.sleep(0.01)


class Running:
    """A uvicorn server of this process on a free port."""

    def __init__(self, app):
        config = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", lifespan="off"
        )
        self.server = uvicorn.Server(config)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listener]}
        )
        self.thread.start()
        wait_until(lambda: self.server.started, what="the server started")

    def ask(self, path, *, method="GET", **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"http://{self.base}{path}", headers=names, method=method
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), NoRedirect()
        )
        try:
            answer = opener.open(request, timeout=PATIENCE_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read().decode()

    def json(self, path, **options):
        status, _, text = self.ask(path, **options)
        return status, json.loads(text)

    def watch(self, path="/ws/live-updates", **options):
        return watch(f"ws://{self.base}{path}", proxy=None, **options)

    def stop(self):
        self.server.should_exit = True
        self.server.force_exit = True
        self.thread.join(PATIENCE_S)
        self.listener.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


@pytest.fixture
def run():
    servers = []

    def start(app):
        server = Running(app)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def service(postgres, tmp_path):
    settings = load_settings(
        {"pool.pool_size": 2, "pool.max_overflow": 2},
        environ={"LAKEBASE_PASSWORD": "hunter2-canary"},
        cwd=tmp_path,
        root=tmp_path,
        check=False,
    )
    with LakebaseService(settings, server=postgres) as service:
        service.health.check_now()
        yield service


@pytest.fixture
def app(service):
    return make_app(subject=subject_of(service, allow_query=True), interval_s=0.05)


@pytest.fixture
def server(run, app):
    return run(app)


class Figures:
    """A source whose figures a test sets, or a function of its own."""

    def __init__(self):
        self.data = LiveData()
        self.looks = 0

    def live(self):
        self.looks += 1
        return self.data() if callable(self.data) else self.data


@pytest.fixture
def figures():
    return Figures()


@pytest.fixture
def eventually():
    """Return `eventually(condition, what=...)`, which waits for a condition."""
    return wait_until


class UnderFault:
    """An application on a stand-in for Lakebase, watched, with a network to spoil."""

    def __init__(self, standin, proxy, service, server):
        self.standin, self.proxy, self.service = standin, proxy, service
        self.server = server
        self.done = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self):
        """Read again and again, whatever happens, as an application does."""
        while not self._ended.wait(0.01):
            try:
                with (
                    self.service.performance.time_operation("read"),
                    self.service.pool.checkout() as connection,
                ):
                    connection.execute("SELECT 1")
                self.done += 1
            except Exception as error:  # noqa: BLE001  # the monitor counts it
                self.failure = error

    def health(self):
        """Have everything examined now; return what the monitor says of it."""
        self.service.health.check_now()
        return self.server.json("/health/detailed")[1]

    def works(self):
        """Whether all is well, and reads succeed again."""
        done = self.done
        health = self.health()
        wait_until(lambda: self.done > done + 2, what="reads succeed")
        return health["status"] == "healthy"

    def close(self):
        self._ended.set()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def under_fault(make_lakebase_standin, make_fault_proxy, run):
    standin = make_lakebase_standin(wake_s=0.2, failover_s=0.2)
    proxy = make_fault_proxy("127.0.0.1", standin.direct_port, seed=1)
    standin.port = proxy.port
    settings = standin.settings(
        pool__pool_size=2,
        pool__max_overflow=2,
        pool__pool_timeout=0.5,
        # Examined when a test says so.
        pool__health_check_interval=3600,
    )
    database = standin.server()
    with LakebaseService(settings, server=database) as service:
        server = run(
            make_app(subject=subject_of(service, allow_query=False), interval_s=0.1)
        )
        under = UnderFault(standin, proxy, service, server)
        wait_until(under.works, what="all is well before")
        yield under
        under.close()
    database.close()


@pytest.fixture
def watched_run(serve, tmp_path):
    """Run a suite in a process of its own with `monitor serve` beside it.

    Returns a function from the suite's text and further options to a context of the
    server's client, the suite's folder and the process.
    """

    @contextmanager
    def make(text, *options):
        suite = tmp_path / "suite"
        suite.mkdir()
        (suite / "test_suite.py").write_text(text)
        server = serve(suite / "reports", "--interval=0.1")
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-q", "--target=embedded", *options),
                *("-p", "no:cacheprovider", "--benchmark-storage", "file://reports"),
                *("--rootdir", suite, "test_suite.py"),
            ],
            cwd=suite,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield server, suite, run
        finally:
            run.kill()
            run.wait()
            run.stdout.close()

    return make
