"""The open loop charges a stall to every arrival it delays, and loses none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.errors import ConfigError
from harness.load import (
    RegularArrivals,
    constant_arrivals,
    poisson_arrivals,
    run_closed_loop,
    run_open_loop,
)
from harness.load.schedules import steps


def serve(clock, times_s):
    """An operation that takes each of *times_s* in turn on a manual clock."""
    taken = iter(times_s)

    def operation(context):
        context.acquired()
        clock.advance(next(taken, 0.0))

    return operation


def test_stall_is_charged_to_every_request_scheduled_during_it():
    """A 200 ms stall shows in the response time of all arrivals it delays.

    A generator that waits for the stalled request before it schedules the next
    one (coordinated omission) would report a single slow sample here.
    """
    clock = ManualClock()
    result = run_open_loop(
        serve(clock, [0.2]),
        constant_arrivals(rate_per_s=100, duration_s=0.5),
        workers=1,
        clock=clock,
    )
    response_ms = result.samples.response_time_ns / 1e6
    expected = [max(0.0, 200 - 10 * i) for i in range(50)]
    assert response_ms.tolist() == pytest.approx(expected, abs=1e-5)
    assert (result.samples.service_time_ns > 20_000_000).sum() == 1

    closed = run_closed_loop(
        serve(clock, [0.2] + [0.001] * 49), workers=1, count=50, clock=clock
    )
    assert (closed.samples.response_time_ns > 20_000_000).sum() == 1


def test_every_sample_keeps_the_identity_and_the_order_of_its_times():
    clock = ManualClock()
    times = np.random.default_rng(1).exponential(0.009, 2000)
    result = run_open_loop(
        serve(clock, times),
        poisson_arrivals(rate_per_s=100, duration_s=10, seed=2),
        workers=1,
        clock=clock,
    )
    samples = result.samples
    assert (samples.intended_ns <= samples.started_ns).all()
    assert (samples.started_ns <= samples.acquired_ns).all()
    assert (samples.acquired_ns <= samples.finished_ns).all()
    parts = samples.start_delay_ns + samples.checkout_wait_ns + samples.service_time_ns
    assert (parts == samples.response_time_ns).all()


@pytest.mark.parametrize("utilization", [0.3, 0.6, 0.8])
def test_waiting_time_is_that_of_an_m_d_1_queue(utilization):
    """Poisson arrivals, constant service, one worker: Pollaczek-Khinchine.

    The mean wait is rho * D / (2 * (1 - rho)).
    """
    clock, service_s = ManualClock(), 0.010
    rate = utilization / service_s
    result = run_open_loop(
        serve(clock, iter(lambda: service_s, None)),
        poisson_arrivals(rate_per_s=rate, duration_s=40_000 / rate, seed=11),
        workers=1,
        warmup_s=200 / rate,
        clock=clock,
    )
    waits_s = result.samples.start_delay_ns / 1e9
    expected_s = utilization * service_s / (2 * (1 - utilization))
    assert waits_s.mean() == pytest.approx(expected_s, rel=0.06)
    # Neighbours wait alike: batches, which are longer than a queue lasts, do not.
    batches = waits_s[: len(waits_s) // 30 * 30].reshape(30, -1).mean(axis=1)
    half_s = 3.1 * float(batches.std(ddof=1)) / math.sqrt(30)  # 99.6 %, t of 29
    assert abs(waits_s.mean() - expected_s) < half_s < 0.15 * expected_s


def test_an_overload_ends_on_time_and_every_arrival_is_accounted_for():
    clock = ManualClock()
    result = run_open_loop(
        serve(clock, iter(lambda: 0.013, None)),  # serves 77/s of 100/s
        constant_arrivals(rate_per_s=100, duration_s=60),
        workers=1,
        drain_s=1.0,
        clock=clock,
    )
    assert result.scheduled == 6000
    assert result.completed + result.dropped == 6000
    assert result.dropped == pytest.approx(6000 - 61 / 0.013, abs=2)
    assert result.wall_s < 61.1
    assert result.throughput_per_s == pytest.approx(1 / 0.013, rel=0.01)


def test_arrivals_of_the_warm_up_are_kept_apart_by_their_intended_time():
    clock = ManualClock()
    result = run_open_loop(
        serve(clock, [1.5]),  # stalls past the end of the warm-up
        constant_arrivals(rate_per_s=10, duration_s=3),
        workers=1,
        warmup_s=1.0,
        clock=clock,
    )
    assert len(result.warmup) == 10
    assert len(result.samples) == 20
    assert result.samples.intended_ns.min() == result.measure_from_ns
    # The first measured arrivals still wait for the stall.
    assert result.samples.response_time_ns.max() == pytest.approx(5e8, abs=1)


def test_a_free_worker_takes_the_next_arrival_while_others_are_busy():
    # Real threads: one stalled operation must not delay the arrivals of the rest.
    import threading

    release = threading.Event()
    stalled = []

    def operation(context):
        if not stalled:
            stalled.append(context.worker)
            release.wait(10)
        elif len(done) == 60:
            release.set()
        done.append(context.worker)

    done = []
    result = run_open_loop(
        operation, constant_arrivals(rate_per_s=200, duration_s=0.5), workers=4
    )
    assert result.completed == 100
    assert (result.samples.service_time_ns > 200_000_000).sum() == 1
    others = [worker for worker in done[:60] if worker != stalled[0]]
    assert len(others) == 60


def test_a_rate_of_zero_in_between_is_a_pause():
    clock = ManualClock()
    result = run_open_loop(
        serve(clock, []),
        RegularArrivals(steps(rates_per_s=[10, 0, 10], step_s=1)),
        workers=1,
        clock=clock,
    )
    gaps = np.diff(result.samples.intended_ns)
    assert gaps.max() == pytest.approx(1.1e9, abs=2)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": 1, "warmup_s": 1.0}, "warmup_s"),
        ({"workers": 1, "drain_s": -1}, "drain_s"),
        ({"workers": 1, "processes": 2}, "workers must be >= processes"),
    ],
)
def test_an_impossible_plan_is_refused_before_anything_runs(bad, named):
    calls = []
    with pytest.raises(ConfigError, match=named):
        run_open_loop(
            lambda _: calls.append(1),
            constant_arrivals(rate_per_s=1, duration_s=1),
            **bad,
        )
    assert calls == []


def test_a_long_run_keeps_histograms_only_and_they_agree_with_the_samples():
    def run(raw_budget):
        clock = ManualClock()
        times = np.random.default_rng(4).lognormal(-6, 1, 20_000)
        return run_open_loop(
            serve(clock, times),
            poisson_arrivals(rate_per_s=200, duration_s=50, seed=9),
            workers=1,
            raw_budget=raw_budget,
            clock=clock,
        )

    raw, folded = run(1_000_000), run(100)
    assert raw.folded is None
    assert len(folded.samples) == 0
    assert folded.completed == raw.completed
    assert folded.wall_ns == raw.wall_ns
    for part in ("start_delay", "service_time", "response_time"):
        assert folded.summary.histograms[part] == raw.summary.histograms[part]
    assert folded.summary.per_second == raw.summary.per_second
