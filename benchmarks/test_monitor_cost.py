"""What do fifty people who watch cost the benchmark they watch?

The monitor runs in a process of its own, as `lakegauge monitor serve` does, and asks
this run for its state ten times a second. One load goes on all the time; slots of it in
which it is watched take turns with slots in which it is not, in blocks of four:
unwatched, watched, watched, unwatched, or the other way round. Whatever drifts more
slowly than a block cancels out of its ratio: loads that start anew land on other
processors each time, and differ three times as much. Blocks in which nobody watches at
all say what a ratio of this machine is worth.

The four callers take turns in one thread: threads hand the interpreter lock around in
one of two ways, each for seconds, of which one is twice as fast as the other; beside
that, nothing that watching costs can be seen.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
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
WORKERS = 4
INTERVAL_S = 0.1
# Share of its throughput that a run may lose to those who watch.
COST_MAX = 0.03
# Of the updates that are due, those that must arrive: a monitor that does not get to
# work costs nothing, and proves nothing.
ARRIVED_MIN = 0.8
CONFIDENCE = 0.95
# Of the blocks in which nobody watches: a good run must not fail them by chance.
CONTROL_CONFIDENCE = 0.99
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


def change(pairs, confidence=CONFIDENCE):
    """Return the change of throughput and its interval: -0.01 is one percent less."""
    evidence = paired_evidence(*zip(*pairs, strict=True))
    interval = evidence.interval(confidence)
    low, high = interval or (-math.inf, math.inf)
    return tuple(math.expm1(value) for value in (evidence.estimate, low, high))


class Turns:
    """Slots of a load that goes on, in turns.

    Args:
        slot_s: Length of a slot, in seconds.
        workers: Of the load.

    Attributes:
        pairs: Rates of the blocks: without and with what was done in their slots.
    """

    def __init__(self, *, slot_s: float, workers: int) -> None:
        self._slot_s = slot_s
        self._done = [0] * workers
        self._ended = threading.Event()
        self._dice = random.Random(1)
        self.pairs = defaultdict(list)

    def count(self, worker):
        """Count an operation; each worker has a place of its own."""
        self._done[worker] += 1

    def take(self, kinds):
        """Go through *kinds* of blocks again and again, until the load has ended."""
        while True:
            for kind in self._dice.sample(kinds, len(kinds)):
                if (pair := self._block(kind)) is None:
                    return
                self.pairs[kind].append(pair)

    def _block(self, inside):
        """Return the rates outside and inside; None if the load ended meanwhile."""
        order = [nullcontext, inside, inside, nullcontext]
        if is_turned := self._dice.random() < 0.5:
            order = [inside, nullcontext, nullcontext, inside]
        rates = [self._rate(within) for within in order]
        if None in rates:
            return None
        ends, both = math.sqrt(rates[0] * rates[3]), math.sqrt(rates[1] * rates[2])
        return (both, ends) if is_turned else (ends, both)

    def _rate(self, within):
        with within():
            begun_ns, before = SYSTEM_CLOCK.monotonic_ns(), sum(self._done)
            if self._ended.wait(self._slot_s):
                return None
            done = sum(self._done) - before
            return done / (SYSTEM_CLOCK.monotonic_ns() - begun_ns) * 1e9

    @contextmanager
    def beside(self, kinds):
        """Take turns for as long as the block runs."""
        with ThreadPoolExecutor(1) as thread:
            turns = thread.submit(self.take, kinds)
            try:
                yield
            finally:
                self._ended.set()
            turns.result()


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
    """A closed loop of SELECT 1 from four callers, with and without fifty watchers."""
    pool = make_pool(size_min=WORKERS, size_max=WORKERS)
    turns = Turns(slot_s=sized(full=0.2, smoke=0.1), workers=WORKERS)

    def select(context):
        with pool.checkout() as connection:
            connection.execute("SELECT 1")
        turns.count(context.worker)

    watching = watched.watching
    with turns.beside([watching, watching, watching, nobody]):
        result = run_closed_loop(
            select,
            workers=WORKERS,
            interleaved=True,
            duration_s=sized(full=150.0, smoke=8.0),
        )
    cost = change(turns.pairs[watching])
    control = change(turns.pairs[nobody], CONTROL_CONFIDENCE)
    cpu_cores = watched.cpu_cores
    watched.monitor.resume()
    updates, stayed = watched.monitor.disperse()
    arrived = updates / (WATCHERS * watched.on_s / INTERVAL_S)
    doubt = doubt_about(cost, control, arrived)
    record_load(
        result,
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
            "blocks": len(turns.pairs[watching]),
            "watchers": WATCHERS,
            "updates_per_s": round(1 / INTERVAL_S),
        },
    )
    assert result.failed == 0
    assert stayed == WATCHERS, "the monitor dropped some of those who watch"
    assert updates > 0
    # Only what is beyond doubt is held against it; a few loads decide nothing.
    if sized(full=doubt is None, smoke=False):
        assert cost[1] > -COST_MAX, (
            f"being watched changed throughput by {cost[0]:+.1%}"
        )
