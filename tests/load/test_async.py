"""Coroutine operations run in an event loop, under the same identities."""

from __future__ import annotations

import asyncio

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load import constant_arrivals, run_closed_loop, run_open_loop
from harness.load.async_sleep import Sleeper


def test_a_coroutine_is_awaited_not_only_made():
    """pytest-benchmark's own fixture times the making of a coroutine: 2 us."""

    async def operation(context):
        context.acquired()
        await asyncio.sleep(0.010)

    result = run_closed_loop(operation, workers=4, count=20)
    assert result.completed == 20
    assert result.samples.service_time_ns.min() >= 9_900_000
    # Four at once: 20 operations of 10 ms in about 50 ms, not in 200.
    assert result.wall_s < 0.19


def test_an_open_loop_accounts_for_every_arrival():
    async def operation(context):
        await asyncio.sleep(0)
        if context.random.random() < 0.2:
            raise KeyError

    result = run_open_loop(
        operation,
        constant_arrivals(rate_per_s=500, duration_s=0.6),
        workers=16,
        warmup_s=0.1,
    )
    assert len(result.warmup) == 50
    assert result.scheduled == 250
    assert result.completed + result.failed == 250
    assert result.errors == {"KeyError": result.failed}
    assert (result.samples.start_delay_ns >= 0).all()


def test_set_up_and_tear_down_may_be_coroutines_of_the_same_loop():
    seen = []

    async def process_setup():
        return asyncio.get_running_loop()

    async def setup(worker):
        return worker, asyncio.get_running_loop()

    async def teardown(state):
        seen.append(state)

    async def operation(context):
        assert context.shared is asyncio.get_running_loop() is context.state[1]

    result = run_closed_loop(
        operation,
        workers=3,
        count=30,
        process_setup=process_setup,
        setup=setup,
        teardown=teardown,
    )
    assert result.failed == 0
    assert sorted(worker for worker, _ in seen) == [0, 1, 2]


def test_a_task_that_never_returns_is_counted_as_unfinished():
    async def operation(context):
        if context.worker == 0:
            await asyncio.sleep(60)
        await asyncio.sleep(0.001)

    result = run_closed_loop(operation, workers=2, duration_s=0.05, grace_s=0.1)
    assert result.unfinished == 1
    assert set(result.samples.worker) == {1}


def test_a_set_up_that_fails_shows_its_own_error():
    async def setup(_worker):
        msg = "refused"
        raise ConnectionError(msg)

    async def operation(_context):
        pytest.fail("must not run")

    with pytest.raises(ConnectionError, match="refused"):
        run_closed_loop(operation, workers=2, count=2, setup=setup)


def test_a_sleeper_wakes_in_order_and_never_early():
    async def main():
        sleeper, clock = Sleeper(SYSTEM_CLOCK), SYSTEM_CLOCK
        base_ns = clock.monotonic_ns()
        woken = []

        async def wait(milliseconds):
            deadline_ns = base_ns + milliseconds * 1_000_000
            await sleeper.until_ns(deadline_ns)
            woken.append((milliseconds, clock.monotonic_ns() - deadline_ns))

        await asyncio.gather(*(wait(ms) for ms in (30, 5, 20, 10, 5, 0)))
        sleeper.close()
        return woken

    woken = asyncio.run(main())
    assert [milliseconds for milliseconds, _ in woken] == [0, 5, 5, 10, 20, 30]
    assert all(late_ns >= 0 for _, late_ns in woken)
