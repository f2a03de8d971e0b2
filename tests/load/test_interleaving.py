"""Interleaved workers share one thread: each runs while the others wait."""

from __future__ import annotations

import math
import socket
import threading
from functools import partial

import numpy as np
import pytest

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import ConfigError
from harness.load import (
    constant_arrivals,
    poisson_arrivals,
    run_closed_loop,
    run_open_loop,
)
from harness.load.interleaving import WRITABLE, Hub, current_hub
from harness.load.intervals import quantile_intervals

DEADLINE_S = 10.0


class Echo:
    """A server in a thread of its own that answers one byte with one."""

    def __init__(self):
        self.theirs, self.ours = [], []

    def connect(self, _worker=0):
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        self.ours.append(ours)
        return ours

    def close(self):
        for peer in (*self.theirs, *self.ours):
            peer.close()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


def test_operations_of_all_workers_are_in_flight_at_once_in_one_thread(echo):
    """The last to ask answers everybody: nobody would return if one blocked."""
    asked, threads = [], set()

    def operation(context):
        threads.add(threading.get_ident())
        asked.append(context.worker)
        if len(asked) % 4 == 0:
            for peer in echo.theirs:
                peer.send(b"x")
        current_hub().wait(context.state.fileno())
        assert context.state.recv(1) == b"x"

    result = run_closed_loop(
        operation,
        workers=4,
        count=400,
        interleaved=True,
        setup=echo.connect,
        teardown=socket.socket.close,
    )
    assert result.completed == 400
    assert result.unfinished == 0
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1
    assert result.operations_by_worker.tolist() == [100] * 4


def test_an_arrival_starts_on_time_while_another_operation_waits(echo):
    """Worker 0's first answer comes when the run is nearly over."""

    def operation(context):
        seen.append(context.worker)
        if len(seen) == 1:
            current_hub().wait(context.state.fileno())
        elif len(seen) == 90:
            echo.theirs[seen[0]].send(b"x")

    seen = []
    result = run_open_loop(
        operation,
        constant_arrivals(rate_per_s=200, duration_s=0.5),
        workers=3,
        interleaved=True,
        setup=echo.connect,
        teardown=socket.socket.close,
    )
    assert result.completed == 100
    slow = result.samples.service_time_ns > 300_000_000
    assert slow.sum() == 1
    assert np.median(result.samples.start_delay_ns) < 5_000_000


def test_a_socket_that_nobody_waits_for_wakes_nobody(echo):
    """An answer too many must not keep the thread busy while others wait."""
    first, other = echo.connect(), echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def leave_one_unread():
        echo.theirs[0].send(b"xy")
        hub.wait(first.fileno())
        order.append(first.recv(1))  # one byte is left: still readable
        hub.clock.sleep(0.02)
        order.append("slept")
        echo.theirs[1].send(b"z")

    def wait_for_the_other():
        hub.wait(other.fileno())
        order.append(other.recv(1))

    with hub.active():
        hub.run([leave_one_unread, wait_for_the_other])
    assert order == [b"x", "slept", b"z"]
    assert hub.turns < 10


def test_a_number_used_again_is_another_socket(echo):
    first = echo.connect()
    number = first.fileno()
    hub = Hub(SYSTEM_CLOCK)
    order = []

    def connect_again():
        echo.theirs[0].send(b"x")
        hub.wait(number)
        first.close()
        second = echo.connect()
        assert second.fileno() == number
        echo.theirs[1].send(b"z")
        hub.wait(number)
        order.append(second.recv(1))

    with hub.active():
        hub.run([connect_again])
    assert order == [b"z"]


def test_a_watched_socket_that_nobody_waits_for_wakes_nobody(echo):
    """It is left alone once it has woken somebody in vain, until it is waited for."""
    watched, other = echo.connect(), echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def leave_one_unread():
        hub.watch(watched.fileno())
        echo.theirs[0].send(b"xy")
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))  # one byte is left: still readable
        hub.clock.sleep(0.02)
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))
        echo.theirs[0].send(b"w")
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))
        echo.theirs[1].send(b"z")

    def wait_for_the_other():
        hub.wait(other.fileno())
        order.append(other.recv(1))

    with hub.active():
        hub.run([leave_one_unread, wait_for_the_other])
    assert order == [b"x", b"y", b"w", b"z"]
    assert hub.turns < 12


def test_a_number_watched_again_is_another_socket(echo):
    """Whether or not the first one had been left alone before it was closed."""
    hub, order = Hub(SYSTEM_CLOCK), []

    def connect_again():
        for unread in (b"", b"u", b""):
            ours = echo.connect()
            numbers.add(ours.fileno())
            hub.watch(ours.fileno())
            echo.theirs[-1].send(b"x" + unread)
            hub.wait_watched(ours.fileno())
            order.append(ours.recv(1))
            hub.clock.sleep(0.005)  # time to be woken in vain
            ours.close()

    numbers: set[int] = set()
    with hub.active():
        hub.run([connect_again])
    assert order == [b"x", b"x", b"x"]
    assert len(numbers) == 1


def test_what_is_sent_goes_out_once_the_answers_at_hand_are_dealt_with(echo):
    ours = [echo.connect() for _ in range(3)]
    hub, order = Hub(SYSTEM_CLOCK), []

    def ask_twice(index):
        hub.watch(ours[index].fileno())
        for round_number in range(2):
            hub.exchange(ours[index].fileno(), send, index, round_number)
            order.append(("answer", round_number, ours[index].recv(1)))

    def send(index, round_number):
        order.append(("sent", round_number, index))
        echo.theirs[index].send(b"%d" % index)

    with hub.active():
        hub.run([partial(ask_twice, index) for index in range(3)])
    assert order == [
        *(("sent", 0, index) for index in range(3)),
        *(("answer", 0, b"%d" % index) for index in range(3)),
        *(("sent", 1, index) for index in range(3)),
        *(("answer", 1, b"%d" % index) for index in range(3)),
    ]


def test_what_cannot_be_sent_fails_where_it_was_asked_for(echo):
    ours = echo.connect()
    hub, found = Hub(SYSTEM_CLOCK), []

    def refuse():
        raise BrokenPipeError("closed by the other side")

    def ask():
        hub.watch(ours.fileno())
        for _ in range(2):
            with pytest.raises(BrokenPipeError, match="closed by the other side"):
                hub.exchange(ours.fileno(), refuse)
        hub.exchange(ours.fileno(), echo.theirs[0].send, b"x")
        found.append(ours.recv(1))

    with hub.active():
        hub.run([ask])
    assert found == [b"x"]


def test_an_arrival_does_not_wait_for_the_answers_that_came_with_it(echo):
    """It is sent between two answers whose workers take their time."""
    slow = [echo.connect() for _ in range(3)]
    prompt = echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def answer_slowly(index):
        hub.watch(slow[index].fileno())
        hub.wait_watched(slow[index].fileno())
        end_ns = hub.clock.monotonic_ns() + 20_000_000
        while hub.clock.monotonic_ns() < end_ns:
            pass  # as an operation that computes
        order.append(index)

    def arrive():
        hub.watch(prompt.fileno())
        due_ns = hub.clock.monotonic_ns() + 10_000_000
        for peer in echo.theirs[:3]:
            peer.send(b"x")
        hub.sleep_until_ns(due_ns)
        hub.exchange(prompt.fileno(), send)

    def send():
        order.append("sent")
        echo.theirs[3].send(b"x")

    with hub.active():
        hub.run([*(partial(answer_slowly, index) for index in range(3)), arrive])
    assert order.index("sent") < 2


def test_a_wait_says_for_what_the_socket_is_ready(echo):
    ours = echo.connect()
    hub = Hub(SYSTEM_CLOCK)
    found = []
    with hub.active():
        hub.run([lambda: found.append(hub.wait(ours.fileno(), WRITABLE))])
    assert found == [WRITABLE]
    assert current_hub() is None


def test_an_operation_that_never_waits_leaves_the_others_their_share():
    result = run_closed_loop(
        lambda _: None, workers=4, count=400, interleaved=True, warmup_count=2
    )
    assert result.operations_by_worker.tolist() == [100] * 4
    assert len(result.warmup) == 8


def test_a_set_up_that_fails_shows_its_error_and_tears_the_others_down():
    ended = []

    def setup(worker):
        if worker == 2:
            msg = "refused"
            raise ConnectionError(msg)
        return worker

    with pytest.raises(ConnectionError, match="refused"):
        run_closed_loop(
            lambda _: pytest.fail("must not run"),
            workers=4,
            count=4,
            interleaved=True,
            setup=setup,
            teardown=ended.append,
        )
    assert ended == [0, 1]


def test_a_worker_that_never_returns_is_counted_and_the_others_end(echo):
    ended = []

    def operation(context):
        if context.worker == 1:
            current_hub().wait(context.state.fileno())
        current_hub().clock.sleep(0.001)

    result = run_closed_loop(
        operation,
        workers=3,
        duration_s=0.05,
        grace_s=0.2,
        interleaved=True,
        setup=echo.connect,
        teardown=ended.append,
    )
    assert result.unfinished == 1
    assert set(result.samples.worker) == {0, 2}
    assert len(ended) == 2


def test_an_operation_that_raises_is_a_result_like_any_other():
    def operation(context):
        current_hub().clock.sleep(0.0001)
        if context.random.random() < 0.5:
            raise KeyError

    result = run_closed_loop(operation, workers=3, count=90, interleaved=True)
    assert result.completed + result.failed == 90
    assert 20 < result.failed < 70
    assert result.errors == {"KeyError": result.failed}


def sleep_a_millisecond(_context):
    current_hub().clock.sleep(0.001)


def test_processes_interleave_their_own_workers():
    result = run_closed_loop(
        sleep_a_millisecond, workers=8, processes=2, duration_s=0.3, interleaved=True
    )
    assert (result.operations_by_worker > 20).all()
    assert result.failed == 0


def test_coroutines_are_refused_because_they_take_turns_anyway():
    async def operation(_context):
        pytest.fail("must not run")

    with pytest.raises(ConfigError, match="coroutines"):
        run_closed_loop(operation, workers=2, count=2, interleaved=True)


def erlang_c(servers, offered):
    """Return the share of arrivals that wait in an M/M/c queue (Erlang 1917)."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers)
    last *= servers / (servers - offered)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("servers", "utilization"), [(2, 0.5), (4, 0.8), (16, 0.9)])
def test_waiting_times_are_those_of_an_m_m_c_queue(servers, utilization):
    """Poisson arrivals, exponential service, c workers: Erlang's formula.

    The wait exceeds t with probability C * exp(-(c * mu - lambda) * t). The engine
    itself runs it, on a manual clock: a hub then is a simulation.
    """
    clock, mu = ManualClock(), 100.0
    rate = servers * mu * utilization
    random = np.random.default_rng(12)
    result = run_open_loop(
        lambda _: current_hub().clock.sleep(random.exponential(1 / mu)),
        poisson_arrivals(rate_per_s=rate, duration_s=60_000 / rate, seed=13),
        workers=servers,
        interleaved=True,
        warmup_s=1000 / rate,
        drain_s=100,
        clock=clock,
    )
    waits_s = result.samples.start_delay_ns / 1e9
    waits_s = waits_s[np.argsort(result.samples.intended_ns)]
    waiting = erlang_c(servers, rate / mu)
    spare = servers * mu - rate
    batches = waits_s[: len(waits_s) // 30 * 30].reshape(30, -1).mean(axis=1)
    half = 3.1 * float(batches.std(ddof=1)) / math.sqrt(30)  # 99.6 %, t of 29
    assert result.completed == result.scheduled
    assert abs(waits_s.mean() - waiting / spare) < half
    assert half < 0.35 * waiting / spare
    low, high = quantile_intervals(waits_s)["p95"]
    assert low <= math.log(20 * waiting) / spare <= high
