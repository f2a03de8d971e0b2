"""Interleaved workers share one thread: each runs while the others wait."""

from __future__ import annotations

import math
import socket
import threading

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.load import (
    constant_arrivals,
    poisson_arrivals,
    run_closed_loop,
    run_open_loop,
)
from harness.load.interleaving import current_hub
from harness.load.intervals import quantile_intervals


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
