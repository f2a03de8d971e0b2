"""A folder of reports made by the journal, and the command that serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.reports.journal import Journal
from harness.reports.record import BLOCK
from harness.reports.store import next_report_path, write_report
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
)

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
