"""What do fifty people who watch cost the benchmark they watch?

The monitor runs in a process of its own, as `lakegauge monitor serve` does, and asks
this run for its state ten times a second. Watched and unwatched loads take turns, and
each watched one is compared with the unwatched ones around it. Monitor and watchers
share this machine's cores with the load: on two of them that is most of what a ratio
shows, and the details say how far two unwatched loads are apart.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from harness.load import run_closed_loop
from harness.monitor.fixtures import live_of
from harness.monitor.run_watch import RunWatch
from harness.reports.live_file import LivePublisher

WATCHERS = 50
INTERVAL_S = 0.1
# Throughput watched against unwatched; the issue of a monitor is to disturb nobody.
RATIO_MIN = 0.97
COMMAND = Path(sys.executable).with_name("lakegauge")

# The watchers, in a process of their own: they are people elsewhere.
WATCHING = """
import asyncio, sys
import websockets


async def watch(url, count):
    async def one():
        async with websockets.connect(url, proxy=None) as client:
            await client.recv()
            connected.release()
            async for _ in client:
                pass

    connected = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(one()) for _ in range(count)]
    for _ in range(count):
        await asyncio.wait_for(connected.acquire(), 60)
    print("watching", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


asyncio.run(watch(sys.argv[1], int(sys.argv[2])))
"""


class Monitor:
    """`lakegauge monitor serve` and those who watch it."""

    def __init__(self, folder: Path) -> None:
        self._server = subprocess.Popen(  # noqa: S603  # our own command
            [
                *(COMMAND, "monitor", "serve", "--port=0", "--reports", folder),
                f"--interval={INTERVAL_S}",
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        url = self._server.stdout.readline().split()[0]
        self._url = url.replace("http://", "ws://").replace(
            "/dashboard", "/ws/live-updates"
        )
        self._watchers = None

    def watch(self) -> None:
        """Let the watchers come; all have had an update when this returns."""
        self._watchers = subprocess.Popen(  # noqa: S603  # the text above
            [sys.executable, "-c", WATCHING, self._url, str(WATCHERS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._watchers.stdout.readline() == "watching\n"

    def cpu_s(self) -> float:
        """Return the CPU time of the server so far, in seconds."""
        used = psutil.Process(self._server.pid).cpu_times()
        return used.user + used.system

    def leave(self) -> None:
        """Let them go."""
        self._watchers.communicate("", timeout=60)

    def close(self) -> None:
        """End both processes."""
        for process in (self._watchers, self._server):
            if process is not None:
                process.kill()
                process.communicate()


@pytest.fixture
def monitored(tmp_path, request):
    """A monitor over a folder of its own, to which this run says what it does."""
    (tmp_path / "unfinished").mkdir()
    published = threading.Event()

    watch = RunWatch()

    def collect():
        published.set()
        return live_of(request.node, watch)

    publisher = LivePublisher(tmp_path, pid=os.getpid(), collect=collect)
    publisher.start()
    monitor = Monitor(tmp_path)
    yield monitor, published
    monitor.close()
    publisher.stop()


@pytest.mark.benchmark(group="monitor-cost")
def test_throughput_watched_against_unwatched(monitored, make_pool, sized, record_load):
    """A closed loop of SELECT 1 from four threads, with and without fifty watchers."""
    monitor, published = monitored
    pool = make_pool(size_min=4, size_max=4)

    def select(_context):
        with pool.checkout() as connection:
            connection.execute("SELECT 1")

    def load():
        return run_closed_loop(
            select, workers=4, duration_s=sized(full=2.0, smoke=0.2), warmup_s=0.1
        )

    load()
    unwatched, watched, server_cpu_s = [load()], [], 0.0
    for _ in range(sized(full=9, smoke=1)):
        published.clear()
        monitor.watch()
        assert published.wait(30), "this run was never asked what it does"
        cpu_s = monitor.cpu_s()
        watched.append(load())
        server_cpu_s += monitor.cpu_s() - cpu_s
        monitor.leave()
        unwatched.append(load())

    ratios = [
        on.throughput_per_s
        / statistics.mean((before.throughput_per_s, after.throughput_per_s))
        for on, before, after in zip(watched, unwatched, unwatched[1:], strict=False)
    ]
    assert all(result.failed == 0 for result in (*watched, *unwatched))
    ratio = statistics.median(ratios)
    record_load(
        watched[-1],
        details={
            "watched_unwatched_ratio": round(ratio, 4),
            "watched_unwatched_ratio_target": RATIO_MIN,
            "watched_unwatched_ratios": [round(value, 4) for value in ratios],
            # How far two unwatched loads in a row are apart: what a ratio is worth.
            "unwatched_unwatched_ratios": [
                round(after.throughput_per_s / before.throughput_per_s, 4)
                for before, after in pairwise(unwatched)
            ],
            "monitor_cpu_cores": round(
                server_cpu_s / sum(result.wall_s for result in watched), 4
            ),
            "watchers": WATCHERS,
            "updates_per_s": round(1 / INTERVAL_S),
        },
    )
