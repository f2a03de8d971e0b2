"""Loads that are watched while they work."""

from __future__ import annotations

import gc
import weakref

import pytest

from harness.clock import NS_PER_S, ManualClock
from harness.errors import ErrorCategory, TargetError
from harness.load import run_closed_loop
from harness.load.plan import ClosedPlan
from harness.load.runner import make_crew
from harness.load.underway import (
    FAILURES,
    LAST_FAILURES_MAX,
    Failures,
    LoadWatch,
    underway,
)


def crew_of(operation, clock, *, workers=1, **plan):
    plan = ClosedPlan(operation=operation, workers=workers, **plan)
    return make_crew(plan, rank=0, clock=clock)


def looked_at_each(operation, *, times, **plan):
    """Run a load on a clock of its own; return a look after each operation."""
    clock, failures, looks = ManualClock(), Failures(), []
    watch = LoadWatch(clock=clock, failures=failures)

    def looked_at(context):
        looks.append(watch.look())
        operation(context, clock)

    crew = crew_of(looked_at, clock, count=times, **plan)
    with underway(crew, failures=failures):
        crew.run(clock.monotonic_ns)
        looks.append(watch.look())
    assert watch.look() is None
    return looks


def test_a_look_sees_what_has_completed_so_far():
    looks = looked_at_each(lambda _, clock: clock.advance(0.25), times=20)

    assert [look.completed for look in looks] == list(range(21))
    assert {look.workers for look in looks} == {1}
    assert [look.in_flight for look in looks] == [1] * 20 + [0]
    assert [look.completed_per_s for look in looks[:2]] == [None] * 2
    assert {look.completed_per_s for look in looks[2:]} == {4.0}
    assert set(looks[-1].response_time_ns) == {NS_PER_S // 4}


def test_percentiles_are_of_the_last_second():
    def operate(_context, clock):
        # 200 of 1 ms, then 1000 of 2 ms: two seconds.
        clock.advance(0.001 if len(durations) < 200 else 0.002)
        durations.append(None)

    durations = []
    looks = looked_at_each(operate, times=1200)

    assert set(looks[150].response_time_ns) == {1_000_000}
    assert set(looks[-1].response_time_ns) == {2_000_000}
    assert 495 <= len(looks[-1].response_time_ns) <= 505


def test_few_values_are_taken_from_further_back():
    looks = looked_at_each(lambda _, clock: clock.advance(2.0), times=20)

    assert 4 <= len(looks[-1].response_time_ns) <= 5  # of ten seconds


def test_what_was_folded_still_counts():
    looks = looked_at_each(
        lambda _, clock: clock.advance(0.0001), times=12_000, raw_budget=100
    )

    assert [look.completed for look in looks] == list(range(12_001))


def test_a_watch_that_comes_late_sees_the_last_second_and_no_more():
    clock, failures = ManualClock(), Failures()
    watch, looks = LoadWatch(clock=clock, failures=failures), []

    def operate(_context):
        clock.advance(0.001)
        done.append(None)
        if len(done) == 50_000:
            looks.append(watch.look())

    done = []
    crew = crew_of(operate, clock, count=50_000)
    with underway(crew, failures=failures):
        crew.run(clock.monotonic_ns)

    (look,) = looks
    assert look.completed == 49_999
    assert 995 <= len(look.response_time_ns) <= 1005


def test_a_load_of_many_threads_is_watched_while_it_runs():
    """On the system's clock, as a run of benchmarks is."""
    watch, looks, looker = LoadWatch(), [], {}

    def operate(context):
        # The first to come: a watch is for one thread.
        if looker.setdefault("worker", context.worker) == context.worker:
            looks.append(watch.look())

    result = run_closed_loop(operate, workers=4, count=400)

    assert watch.look() is None
    assert {look.workers for look in looks} == {4}
    counts = [look.completed for look in looks]
    assert counts == sorted(counts)
    assert counts[-1] <= result.completed == 400


def test_failures_are_counted_by_kind_and_their_words_thinned():
    clock = ManualClock()
    failures = Failures(clock)

    for number in range(100):
        failures.note(ValueError(f"no {number}"))
        clock.advance(0.01)
    failures.note(TargetError("refused", sqlstate="28P01"))

    by_type = {kind.type: count for kind, count in failures.counts().items()}
    assert by_type == {ValueError: 100, TargetError: 1}
    last = failures.last()
    assert len(last) == LAST_FAILURES_MAX
    assert (last[-1].message, last[-1].kind.sqlstate) == ("refused", "28P01")
    # Twenty a second, not a hundred.
    assert [one.message for one in last[:3]] == ["no 55", "no 60", "no 65"]


def test_a_failure_says_what_is_known_of_its_kind():
    class ThrottledError(Exception):
        classification = TargetError("x").classification

    class KnownError(Exception):
        def __init__(self, classification):
            self.classification = classification

    from harness.postgres.classify import classify

    known = classify(ConnectionRefusedError())
    failures = Failures()
    failures.note(KnownError(known))
    failures.note(ThrottledError())

    found = {kind.classification for kind in failures.counts()}
    assert found == {known, None}
    assert known.category is ErrorCategory.NETWORK


def test_a_failure_keeps_nothing_of_the_operation_alive():
    class Connection:
        pass

    def operate():
        connection = Connection()
        kept.append(weakref.ref(connection))
        raise ValueError("gone")

    kept, failures = [], Failures()
    with pytest.raises(ValueError, match="gone") as raised:
        operate()
    failures.note(raised.value)
    del raised
    gc.collect()

    assert kept[0]() is None
    assert failures.counts().total() == 1


def test_an_exception_that_cannot_be_said_is_still_counted():
    class SilentError(Exception):
        def __str__(self):
            raise RuntimeError

    failures = Failures()
    failures.note(SilentError())

    assert failures.counts().total() == 1
    assert failures.last()[0].message == ""


def failing(_context):
    raise BlockingIOError


def test_failures_in_other_processes_are_noted_when_they_are_known():
    def count():
        return sum(
            count
            for kind, count in FAILURES.counts().items()
            if kind.type is BlockingIOError
        )

    before = count()
    result = run_closed_loop(failing, workers=2, processes=2, count=10)

    assert result.failed == 10
    assert count() - before == 10
