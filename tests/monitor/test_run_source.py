"""A run of benchmarks seen from another process, and a saved one played again."""

from __future__ import annotations

import json
import os

import pytest
from websockets.sync.client import connect as watch

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.monitor.folder import ReportFolder, find_run
from harness.monitor.run_source import ReplaySource, RunSource
from harness.reports.live import LiveBenchmark, LiveData
from harness.reports.live_file import LivePublisher, LiveReader

PATIENCE_S = 60
START = ManualClock().now()

SUITE = """
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", [1, 2])
def test_case(benchmark, make_pool, number):
    pool = make_pool(size_min=1, size_max=3)
    with pool.checkout() as connection:
        connection.execute("SELECT 1")
        if number == 2:
            Path("holding").touch()
            deadline = time.monotonic() + 60
            while not Path("seen").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
    benchmark.pedantic(lambda: None, rounds=6)
"""


def publisher_of(folder, data=None, **options):
    state = data or LiveData(
        benchmark=LiveBenchmark(started_at=START, state="running", case="x.py::test_a")
    )
    publisher = LivePublisher(folder, pid=os.getpid(), collect=lambda: state, **options)
    publisher.path.parent.mkdir(parents=True, exist_ok=True)
    return publisher


def test_a_run_writes_nothing_while_nobody_watches(tmp_path):
    publisher = publisher_of(tmp_path)

    publisher.publish()

    assert not publisher.path.exists()


def test_a_run_is_seen_once_somebody_watches(tmp_path):
    publisher, reader = publisher_of(tmp_path), LiveReader(tmp_path, interval_s=0.1)
    assert reader.read() is None

    assert publisher.publish() == 0.1

    assert reader.read().data.benchmark.case == "x.py::test_a"
    reader.close()
    publisher.path.unlink()
    publisher.publish()
    assert not publisher.path.exists()


def test_the_marker_of_a_monitor_that_was_killed_goes_stale(tmp_path):
    publisher = publisher_of(tmp_path)
    LiveReader(tmp_path).read()
    marker = tmp_path / "unfinished" / "watched"
    os.utime(marker, (marker.stat().st_atime, marker.stat().st_mtime - 60))

    publisher.publish()

    assert not publisher.path.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '{"data": {}}', "[" * 100_000, "x" * 2_000_000],
    ids=lambda text: text[:8] or "empty",
)
def test_a_damaged_state_is_passed_over(tmp_path, text):
    publisher, reader = publisher_of(tmp_path), LiveReader(tmp_path)
    publisher.path.write_text(text)

    assert reader.read() is None


def test_a_state_of_a_newer_version_is_passed_over(tmp_path):
    publisher, reader = publisher_of(tmp_path), LiveReader(tmp_path)
    reader.read()
    publisher.publish()
    newer = json.loads(publisher.path.read_text()) | {"version": 999}
    publisher.path.write_text(json.dumps(newer))

    assert reader.read() is None


def test_what_a_run_says_is_made_printable(tmp_path):
    hostile = LiveData(notes=("evil\x1b[2J\u202e",))
    publisher = publisher_of(tmp_path, hostile)
    source = RunSource(ReportFolder(tmp_path))
    source.live()
    publisher.publish()

    (note,) = source.live().notes
    assert "\x1b" not in note
    assert "\u202e" not in note


def test_without_a_run_the_newest_report_is_shown(reports):
    source = RunSource(ReportFolder(reports.folder))
    assert source.live().notes == ("no run is in progress; `make bench` starts one",)
    reports.save(reports.record("test_a"), reports.record("test_b"))

    benchmark = source.live().benchmark

    assert (benchmark.state, benchmark.cases_done) == ("complete", 2)


def test_a_replay_goes_through_the_cases_and_stays_at_the_end(reports):
    path = reports.save(reports.record("test_a"), reports.record("test_b", scale=2.0))
    clock = ManualClock(START)
    source = ReplaySource(find_run(str(path), reports.folder), speed=2, clock=clock)

    shown = []
    for _ in range(6):
        live = source.live()
        shown.append((live.benchmark.case[-6:], live.benchmark.cases_done))
        clock.advance(0.5)

    # Each was measured for two seconds, so each takes one.
    assert shown == [("test_a", 0)] * 2 + [("test_b", 1)] * 4
    assert live.benchmark.state == "replay"
    assert live.load.response_time.p50_ms == pytest.approx(401, rel=0.01)
    assert live.load.throughput_per_s == 200


def test_a_benchmark_in_another_process_is_watched_while_it_runs(watched_run):
    """As a user does it: `monitor serve` beside a run of pytest."""
    with watched_run(SUITE) as (server, suite, run):
        url = server.base.replace("http://", "ws://") + "/ws/live-updates"
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
        with watch(url, proxy=None) as client:
            while True:
                assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "never seen"
                data = json.loads(client.recv(PATIENCE_S))["data"]
                is_second = (data["benchmark"] or {}).get("case_index") == 2
                if is_second and data["pool"] and data["pool"]["in_use"] == 1:
                    break
        pool = server.get("/metrics/pool").json()
        (suite / "seen").touch()
        output, _ = run.communicate(timeout=PATIENCE_S)

    assert run.returncode == 0, output
    assert data["benchmark"]["case"].endswith("test_case[2]")
    assert (data["benchmark"]["cases_done"], data["benchmark"]["cases_total"]) == (1, 2)
    assert pool["active_connections"] == 1
    assert not list((suite / "reports" / "unfinished").glob("*.live*"))
