"""The rounds of a micro case are dealt out in turns; what is timed is not touched."""

from __future__ import annotations

import inspect

from pytest_benchmark.fixture import BenchmarkFixture

from harness.reports.bridge import before_each_round, repeat_calibration

TURN_S = 100.0


class Fixture:
    """Times rounds as pytest-benchmark does, by a clock that moves when it is told."""

    def __init__(self):
        self.now_s = 0.0
        self._max_time = 1.0

    def _calibrate_timer(self, runner):
        return runner(range(2)), 2, range(2)

    def _make_runner(self, function, args, kwargs):
        def runner(loops_range):
            began_s = self.now_s
            for _ in loops_range:
                function(*args, **kwargs)
            return self.now_s - began_s

        return runner


def test_what_happens_between_two_rounds_is_in_no_round():
    fixture = Fixture()
    events = []

    def wait_for_turn():
        events.append("turn")
        fixture.now_s += TURN_S

    def work(amount):
        events.append("work")
        fixture.now_s += amount

    before_each_round(fixture, wait_for_turn)
    runner = fixture._make_runner(work, (2.0,), {})

    assert [runner(range(3)) for _ in range(2)] == [6.0, 6.0]
    assert events == ["turn", "work", "work", "work"] * 2


def test_pytest_benchmark_makes_its_runners_that_way():
    """Without it every case would silently be one turn."""
    parameters = inspect.signature(BenchmarkFixture._make_runner).parameters
    assert list(parameters) == ["self", "function_to_benchmark", "args", "kwargs"]
    parameters = inspect.signature(BenchmarkFixture._calibrate_timer).parameters
    assert list(parameters) == ["self", "runner"]


def test_a_fixture_that_makes_no_runners_is_left_alone():
    fixture = object()
    before_each_round(fixture, lambda: None)
    repeat_calibration(fixture)


def test_one_interrupted_round_does_not_decide_how_many_there_are():
    fixture = Fixture()
    repeat_calibration(fixture)
    rounds_s = [0.3, 0.01, 0.02, 0.01, 0.01, 0.01, 0.01]
    found = fixture._calibrate_timer(lambda _loops: rounds_s.pop(0))
    assert found == (0.01, 2, range(2))
    assert len(rounds_s) == 1


def test_long_rounds_are_calibrated_with_one_more():
    fixture = Fixture()
    repeat_calibration(fixture)
    rounds_s = [3.0, 2.5, 2.0]
    assert fixture._calibrate_timer(lambda _loops: rounds_s.pop(0))[0] == 2.5
