"""The closed loop keeps its identities and accounts for every operation."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from harness.clock import NS_PER_S, ManualClock
from harness.errors import ConfigError
from harness.load import run_closed_loop


class DatabaseGoneError(Exception):
    pass


def test_one_caller_on_a_manual_clock_is_measured_exactly():
    clock = ManualClock()

    def operation(context):
        clock.advance(0.002)  # waits for a connection
        context.acquired()
        clock.advance(0.003)  # is served

    result = run_closed_loop(operation, workers=1, duration_s=0.05, clock=clock)

    assert result.completed == 10
    assert set(result.samples.checkout_wait_ns) == {2_000_000}
    assert set(result.samples.service_time_ns) == {3_000_000}
    assert result.wall_s == 0.05
    assert result.throughput_per_s == 200.0


def test_response_time_is_the_sum_of_its_parts_for_every_sample():
    clock = ManualClock()

    def operation(context):
        clock.advance(context.random.random() / 100)
        if context.random.random() < 0.5:
            context.acquired()
        clock.advance(context.random.random() / 100)

    samples = run_closed_loop(operation, workers=1, count=200, clock=clock).samples

    assert len(samples) == 200
    parts = samples.start_delay_ns + samples.checkout_wait_ns + samples.service_time_ns
    assert (parts == samples.response_time_ns).all()
    assert (samples.intended_ns == samples.started_ns).all()
    assert (samples.started_ns <= samples.acquired_ns).all()
    assert (samples.acquired_ns <= samples.finished_ns).all()
    for sample in samples:
        assert sample.response_time_ns == (
            sample.start_delay_ns + sample.checkout_wait_ns + sample.service_time_ns
        )


def test_failures_are_counted_by_class_and_the_run_goes_on():
    def operation(context):
        draw = context.random.random()
        if draw < 0.2:
            raise DatabaseGoneError
        if draw < 0.3:
            msg = "bad key"
            raise KeyError(msg)

    result = run_closed_loop(operation, workers=4, count=1000, seed=7)

    assert result.scheduled == 1000
    assert result.completed + result.failed == 1000
    assert result.errors == {
        "DatabaseGoneError": sum(
            s.error == "DatabaseGoneError" for s in result.samples
        ),
        "KeyError": sum(s.error == "KeyError" for s in result.samples),
    }
    assert result.errors["DatabaseGoneError"] > result.errors["KeyError"] > 0
    assert isinstance(result.examples["KeyError"], KeyError)


def test_a_count_is_shared_exactly_however_many_threads_take_from_it():
    calls = []
    result = run_closed_loop(lambda c: calls.append(c.worker), workers=16, count=5000)
    assert len(calls) == result.completed == 5000


def test_workers_really_run_at_the_same_time():
    # Each operation waits for all the others: a serial engine would never pass.
    together = threading.Barrier(8, timeout=10)
    result = run_closed_loop(lambda _: together.wait(), workers=8, count=8)
    assert result.completed == 8
    assert sorted(set(result.samples.worker)) == list(range(8))


def test_warmup_by_count_is_kept_apart():
    seen = []
    result = run_closed_loop(
        lambda c: seen.append(c.worker), workers=3, count=30, warmup_count=5
    )
    assert len(result.warmup) == 15
    assert len(result.samples) == 30
    assert len(seen) == 45
    assert result.warmup.finished_ns.max() <= result.samples.started_ns.min()


def test_warmup_by_time_is_kept_apart():
    clock = ManualClock()
    result = run_closed_loop(
        lambda _: clock.advance(0.010),
        workers=1,
        duration_s=0.1,
        warmup_s=0.05,
        clock=clock,
    )
    assert len(result.warmup) == 5
    assert len(result.samples) == 10
    assert result.wall_s == pytest.approx(0.1)


def test_setup_and_teardown_run_once_in_each_worker():
    lock, opened, closed = threading.Lock(), [], []

    def setup(worker):
        with lock:
            opened.append((worker, threading.get_ident()))
        return worker * 10

    def teardown(state):
        with lock:
            closed.append(state)

    def operation(context):
        assert context.state == context.worker * 10

    result = run_closed_loop(
        operation, workers=4, count=40, setup=setup, teardown=teardown
    )
    assert result.failed == 0
    assert sorted(worker for worker, _ in opened) == [0, 1, 2, 3]
    assert len({thread for _, thread in opened}) == 4
    assert sorted(closed) == [0, 10, 20, 30]


def test_a_setup_that_fails_fails_the_run_with_its_own_error():
    def setup(worker):
        if worker == 2:
            raise DatabaseGoneError

    calls = []
    with pytest.raises(DatabaseGoneError):
        run_closed_loop(lambda _: calls.append(1), workers=4, count=10, setup=setup)
    assert calls == []


def test_an_operation_that_never_returns_is_counted_as_unfinished():
    stuck = threading.Event()

    def operation(context):
        if context.worker == 1:
            stuck.wait()

    result = run_closed_loop(operation, workers=2, duration_s=0.05, grace_s=0.1)

    assert result.unfinished == 1
    assert set(result.samples.worker) == {0}
    assert result.scheduled == (
        result.completed + result.failed + result.dropped + result.unfinished
    )
    stuck.set()


def test_a_worker_draws_the_same_numbers_in_every_run_of_a_seed():
    def draws(seed):
        seen = {}

        def operation(context):
            seen.setdefault(context.worker, []).append(context.random.random())

        run_closed_loop(operation, workers=2, warmup_count=5, count=1, seed=seed)
        return {worker: numbers[:5] for worker, numbers in seen.items()}

    assert draws(1) == draws(1)
    assert draws(1)[0] != draws(1)[1]
    assert draws(1) != draws(2)


def test_throughput_counts_completed_operations_only():
    clock = ManualClock()
    calls = iter(range(10))

    def operation(_):
        clock.advance(0.1)
        if next(calls) % 2:
            raise DatabaseGoneError

    result = run_closed_loop(operation, workers=1, count=10, clock=clock)
    assert result.wall_ns == NS_PER_S
    assert result.throughput_per_s == 5.0


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"workers": 0, "count": 1}, "workers"),
        ({"workers": 1}, "duration_s"),
        ({"workers": 1, "count": 1, "duration_s": 1.0}, "duration_s"),
        ({"workers": 1, "duration_s": 0}, "duration_s"),
        ({"workers": 1, "count": 0}, "count"),
        ({"workers": 1, "count": 1, "warmup_s": -1}, "warmup_s"),
        ({"workers": 1, "duration_s": math.nan}, "duration_s must be a finite"),
        ({"workers": 1, "duration_s": math.inf}, "duration_s must be a finite"),
        ({"workers": 1, "count": 1, "warmup_s": math.nan}, "warmup_s must be a finite"),
        ({"workers": 1, "count": 1, "grace_s": math.nan}, "grace_s must be a finite"),
        ({"workers": 1, "count": 1, "think_time_s": math.inf}, "think_time_s must be"),
    ],
)
def test_an_impossible_plan_is_refused_before_anything_runs(bad, named):
    calls = []
    with pytest.raises(ConfigError, match=named):
        run_closed_loop(lambda _: calls.append(1), **bad)
    assert calls == []


def test_recording_keeps_every_operation_of_every_worker():
    result = run_closed_loop(lambda _: None, workers=4, duration_s=0.05)
    assert np.bincount(result.samples.worker, minlength=4).sum() == result.completed
    assert len(result.samples) > 100


def test_outage_is_the_longest_time_without_a_completion():
    clock = ManualClock()
    pauses_s = iter([0.1, 0.1, 0.7, 0.1])

    def operation(_context):
        clock.advance(next(pauses_s))

    result = run_closed_loop(operation, workers=1, count=4, clock=clock)

    assert result.outage_s == pytest.approx(0.7)


def test_outage_reaches_to_the_end_when_nothing_completes_any_more():
    clock = ManualClock()
    pauses_s = iter([0.1, 0.9])

    def operation(_context):
        pause_s = next(pauses_s)
        clock.advance(pause_s)
        assert pause_s < 0.5

    result = run_closed_loop(operation, workers=1, count=2, clock=clock)

    assert result.outage_s == pytest.approx(0.9)
