"""What do fifty people who watch cost the benchmark they watch?

The monitor runs in a process of its own, as `lakegauge monitor serve` does, and asks
this run for its state ten times a second. Watched and unwatched loads of less than a
second take turns, in blocks of four: unwatched, watched, watched, unwatched, or the
other way round. Whatever drifts more slowly than a block cancels out of its ratio, and
blocks in which nobody watches at all say what a ratio of this machine is worth.
"""

from __future__ import annotations

import math
import os
import random
import threading
from contextlib import contextmanager, nullcontext

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load import run_closed_loop
from harness.monitor.fixtures import live_of
from harness.monitor.run_watch import RunWatch
from harness.monitor.served import ServedMonitor
from harness.reports.live_file import LivePublisher
from harness.reports.statistics.ratios import paired_evidence

WATCHERS = 50
INTERVAL_S = 0.1
# Share of its throughput that a run may lose to those who watch.
COST_MAX = 0.03
# Of the updates that are due, those that must arrive: a monitor that does not get to
# work costs nothing, and proves nothing.
ARRIVED_MIN = 0.8
CONFIDENCE = 0.95
PATIENCE_S = 30.0


class Watched:
    """A monitor with its crowd, stopped but for the loads that are watched."""

    def __init__(self, folder, collect) -> None:
        (folder / "unfinished").mkdir()
        self._folder, self._collect = folder, collect
        self.on_s = 0.0
        self.monitor = ServedMonitor(folder, interval_s=INTERVAL_S)
        self.monitor.gather(WATCHERS)
        self.monitor.pause()
        self._cpu_before_s = self.monitor.cpu_s

    @property
    def cpu_cores(self) -> float:
        """CPU of the server while it was not stopped."""
        return (self.monitor.cpu_s - self._cpu_before_s) / self.on_s

    @contextmanager
    def watching(self):
        """Let them watch for the length of a block, from the first update on."""
        published = threading.Event()

        def collect():
            published.set()
            return self._collect()

        begun_ns = SYSTEM_CLOCK.monotonic_ns()
        self.monitor.resume()
        publisher = LivePublisher(self._folder, pid=os.getpid(), collect=collect)
        publisher.start()
        try:
            assert published.wait(PATIENCE_S), "this run was never asked what it does"
            yield
        finally:
            publisher.stop()
            self.monitor.pause()
            self.on_s += (SYSTEM_CLOCK.monotonic_ns() - begun_ns) / 1e9


@pytest.fixture
def watched(tmp_path, request):
    """A monitor over a folder of its own, to which this run says what it does."""
    watch = RunWatch()
    watched = Watched(tmp_path, lambda: live_of(request.node, watch))
    yield watched
    watched.monitor.close()


def change(pairs):
    """Return the change of throughput and its interval: -0.01 is one percent less."""
    evidence = paired_evidence(*zip(*pairs, strict=True))
    interval = evidence.interval(CONFIDENCE)
    low, high = interval or (-math.inf, math.inf)
    return tuple(math.expm1(value) for value in (evidence.estimate, low, high))


def nobody():
    """In place of `watching`."""
    return nullcontext()


def doubt_about(cost, control, arrived):
    """Return why these figures decide nothing; None if they do."""
    _, low, high = cost
    if arrived < ARRIVED_MIN:
        return (
            f"{arrived:.0%} of the updates that were due arrived: the monitor had no "
            "processor to work on, so what it costs is not seen"
        )
    if low <= -COST_MAX <= high:
        return (
            f"being watched changed throughput by {low:+.1%} to {high:+.1%}, which may "
            f"be more or less than the {-COST_MAX:.0%} allowed: free the machine"
        )
    _, low, high = control
    if not low <= 0.0 <= high:
        return f"with nobody watching, it changed by {low:+.1%} to {high:+.1%} too"
    return None


@pytest.mark.benchmark(group="monitor-cost")
def test_throughput_watched_against_unwatched(watched, make_pool, sized, record_load):
    """A closed loop of SELECT 1 from four threads, with and without fifty watchers."""
    pool = make_pool(size_min=4, size_max=4)
    duration_s = sized(full=0.4, smoke=0.2)
    blocks, control_blocks = sized(full=(56, 28), smoke=(3, 3))
    dice = random.Random(1)
    results = []

    def select(_context):
        with pool.checkout() as connection:
            connection.execute("SELECT 1")

    def rate():
        results.append(
            run_closed_loop(select, workers=4, duration_s=duration_s, warmup_s=0.03)
        )
        return results[-1].throughput_per_s

    def block(watching):
        """Return throughput unwatched and watched, each the mean of two loads."""
        outer, inner = (watching, nullcontext)
        if dice.random() < 0.5:
            outer, inner = inner, outer
        with outer():
            first = rate()
        with inner():
            both = math.sqrt(rate() * rate())
        with outer():
            ends = math.sqrt(first * rate())
        return (both, ends) if outer is watching else (ends, both)

    rate()
    kinds = [watched.watching] * blocks + [nobody] * control_blocks
    dice.shuffle(kinds)
    found = [(kind, block(kind)) for kind in kinds]
    cost = change([pair for kind, pair in found if kind is not nobody])
    control = change([pair for kind, pair in found if kind is nobody])
    cpu_cores = watched.cpu_cores
    watched.monitor.resume()
    updates, stayed = watched.monitor.disperse()
    arrived = updates / (WATCHERS * watched.on_s / INTERVAL_S)
    doubt = doubt_about(cost, control, arrived)
    record_load(
        results[-1],
        invalid=sized(full=doubt, smoke=None),
        details={
            "throughput_change": round(cost[0], 4),
            "throughput_change_low": round(cost[1], 4),
            "throughput_change_high": round(cost[2], 4),
            "throughput_change_allowed": -COST_MAX,
            "unwatched_change": round(control[0], 4),
            "unwatched_change_low": round(control[1], 4),
            "unwatched_change_high": round(control[2], 4),
            "updates_arrived_ratio": round(arrived, 3),
            "monitor_cpu_cores": round(cpu_cores, 4),
            "watchers": WATCHERS,
            "updates_per_s": round(1 / INTERVAL_S),
        },
    )
    assert all(result.failed == 0 for result in results)
    assert stayed == WATCHERS, "the monitor dropped some of those who watch"
    assert updates > 0
    # Only what is beyond doubt is held against it; a few loads decide nothing.
    if sized(full=doubt is None, smoke=False):
        assert cost[1] > -COST_MAX, (
            f"being watched changed throughput by {cost[0]:+.1%}"
        )
