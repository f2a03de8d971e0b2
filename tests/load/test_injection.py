"""A slowdown put in on purpose is as large as was asked for, and leaves no trace."""

from __future__ import annotations

import time

import pytest

from harness.load import run_closed_loop
from harness.load.injection import inject_slowdown, slowed


@pytest.fixture
def injected():
    yield inject_slowdown
    inject_slowdown(None)


def spin(duration_s=0.002):
    until = time.perf_counter() + duration_s
    while time.perf_counter() < until:
        pass


def fastest_s(function, rounds=40):
    """The fastest round: what others took of the machine is in the slower ones."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        found.append(time.perf_counter() - began)
    return min(found)


def test_a_function_takes_the_share_longer(injected):
    plain_s = fastest_s(spin)
    injected(0.5)
    assert fastest_s(slowed(spin)) / plain_s == pytest.approx(1.5, abs=0.1)


def test_nothing_is_wrapped_where_nothing_is_injected(injected):
    assert slowed(spin) is spin
    injected(0.0)
    assert slowed(spin) is not spin
    assert fastest_s(slowed(spin)) / fastest_s(spin) == pytest.approx(1.0, abs=0.1)


def service_time_ms(function):
    result = run_closed_loop(function, workers=1, count=60)
    return result.samples.service_time_ns.min() / 1e6


def test_operations_of_the_load_engine_are_slowed_threads_and_coroutines_alike(
    injected,
):
    def operation(context):
        context.acquired()
        spin()

    async def coroutine(context):
        context.acquired()
        spin()

    injected(0.0)
    plain = [service_time_ms(operation), service_time_ms(coroutine)]
    injected(1.0)
    slow = [service_time_ms(operation), service_time_ms(coroutine)]
    for before_ms, after_ms in zip(plain, slow, strict=True):
        assert 1.9 < after_ms / before_ms < 2.4
