"""Cases that make load on executors; `test_load.py` runs them in sessions of their own.

This file is on no executor's path: its operations travel with the plan.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness import ConfigError, LoadError
from harness.clock import SYSTEM_CLOCK
from harness.load import constant_arrivals, run_closed_loop, run_open_loop
from harness.load.interleaving import current_hub
from harness.spark import load

PASSWORD = "canary-9f31c2"


class RefusedError(Exception):
    pass


class Connected:
    """An operation that carries what it needs to connect."""

    def __init__(self, password):
        self.password = password

    def __call__(self, context):
        assert self.password == PASSWORD
        context.acquired()
        time.sleep(0.001)


def pause(context):
    context.acquired()
    time.sleep(0.001)


async def pause_async(context):
    context.acquired()
    await asyncio.sleep(0.001)


def wait_with_the_others(context):
    """Fail by how many of this process were in it at once, and on which thread."""
    context.acquired()
    context.shared.append(context.worker)
    current_hub().clock.sleep(0.005)
    name = f"{len(context.shared)}At{os.getpid()}On{threading.get_ident()}"
    context.shared.remove(context.worker)
    raise type(name, (Exception,), {})


def pause_interleaved(context):
    context.acquired()
    current_hub().clock.sleep(0.001)


def fail_by_process(context):
    raise (RefusedError if context.worker % 2 else TimeoutError)(str(context.worker))


def refuse():
    msg = f"no connection for {PASSWORD[:6]}"
    raise RefusedError(msg)


def refuse_worker_1(index):
    if index == 1:
        refuse()


def kill_own_process(context):
    if context.worker == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)


def kill_own_executor(context):
    if context.worker == 1:
        # However many processes forked the worker: the executor started the first.
        above = psutil.Process().parents()
        next(each for each in above if each.name() == "java").kill()
    time.sleep(0.001)


def record_process(_index):
    return os.getpid()


def fail_with_process(context):
    msg = f"Process{context.state}Error"
    raise type(msg, (Exception,), {})


def test_open_loop_keeps_its_schedule_and_loses_no_arrival(spread_load):
    before_ns = SYSTEM_CLOCK.monotonic_ns()
    result = run_open_loop(
        Connected(PASSWORD),
        constant_arrivals(rate_per_s=300, duration_s=1.5),
        workers=4,
        processes=2,
        warmup_s=0.5,
        spread=spread_load,
    )
    after_ns = SYSTEM_CLOCK.monotonic_ns()

    assert (result.completed, result.scheduled) == (300, 300)
    assert len(result.warmup) == 150
    # On the driver's clock, and with one start for both processes.
    assert before_ns < result.measure_from_ns < after_ns - result.wall_ns
    offsets_ns = np.sort(result.samples.intended_ns) - result.measure_from_ns
    expected_ns = np.rint(np.arange(300) * 1e9 / 300)
    # A reading of two clocks is good to some microseconds.
    assert np.abs(offsets_ns - expected_ns).max() < 1e6
    samples = result.samples
    assert np.array_equal(
        samples.response_time_ns,
        samples.start_delay_ns + samples.checkout_wait_ns + samples.service_time_ns,
    )
    assert samples.service_time_ns.min() >= 1_000_000
    assert result.wall_ns == samples.finished_ns.max() - result.measure_from_ns
    assert 0 < result.clock_skew_ns < 1e9


def test_a_count_is_split_exactly_also_among_coroutines(spread_load):
    result = run_closed_loop(
        pause_async, workers=4, processes=2, count=101, spread=spread_load
    )

    assert result.completed == 101
    assert result.processes == 2


def test_workers_of_a_share_are_interleaved_in_one_thread(spread_load):
    shape = {"workers": 8, "processes": 2, "interleaved": True, "spread": spread_load}
    failing = run_closed_loop(
        wait_with_the_others, count=200, process_setup=list, **shape
    )
    assert failing.failed == 200
    names = [re.fullmatch(r"(\d)At(\d+)On(\d+)", name) for name in failing.errors]
    assert {found[1] for found in names} >= {"4"}
    assert len({found[2] for found in names}) == 2
    assert len({(found[2], found[3]) for found in names}) == 2

    schedule = constant_arrivals(rate_per_s=400, duration_s=0.5)
    result = run_open_loop(pause_interleaved, schedule, **shape)
    assert (result.completed, result.scheduled) == (200, 200)


def test_each_share_runs_in_a_process_of_its_own(spread_load):
    result = run_closed_loop(
        fail_with_process,
        workers=2,
        processes=2,
        count=10,
        setup=record_process,
        spread=spread_load,
    )

    assert len(result.errors) == 2
    assert f"Process{os.getpid()}Error" not in result.errors


def test_failures_are_merged_by_class(spread_load):
    result = run_closed_loop(
        fail_by_process, workers=2, processes=2, count=20, spread=spread_load
    )

    assert result.errors == {"TimeoutError": 10, "RefusedError": 10}
    assert isinstance(result.examples["RefusedError"], RefusedError)


def test_a_run_past_its_raw_budget_comes_back_as_histograms(spread_load):
    result = run_closed_loop(
        pause, workers=2, processes=2, count=400, raw_budget=50, spread=spread_load
    )

    assert result.folded is not None
    assert result.completed == 400
    assert sum(result.folded.per_second.values()) == 400
    now_s = SYSTEM_CLOCK.monotonic_ns() / 1e9
    assert all(now_s - 60 < second <= now_s for second in result.folded.per_second)


def test_a_setup_that_fails_on_one_executor_raises_its_own_error(spread_load):
    with pytest.raises(RefusedError, match="no connection for canary"):
        run_closed_loop(
            pause,
            workers=2,
            processes=2,
            duration_s=20,
            setup=refuse_worker_1,
            spread=spread_load,
        )


def test_a_killed_worker_fails_the_run_by_name_and_only_this_run(spread_load):
    begun_ns = SYSTEM_CLOCK.monotonic_ns()
    with pytest.raises(LoadError) as caught:
        run_closed_loop(
            kill_own_process, workers=2, processes=2, duration_s=30, spread=spread_load
        )
    assert SYSTEM_CLOCK.monotonic_ns() - begun_ns < 25e9

    text = str(caught.value)
    assert text.startswith("worker process 1 on Spark was lost (Python worker exited")
    assert "\n" not in text
    assert "java" not in text
    result = run_closed_loop(
        pause, workers=2, processes=2, count=10, spread=spread_load
    )
    assert result.completed == 10


def test_a_killed_executor_fails_the_run_by_name_and_only_this_run(spread_load, spark):
    if not spark.sparkContext.master.startswith("local-cluster"):
        pytest.skip("the executor is the driver")
    with pytest.raises(LoadError, match=r"^worker process 1 on Spark was lost \(Exec"):
        run_closed_loop(
            kill_own_executor, workers=2, processes=2, duration_s=30, spread=spread_load
        )
    # Spark starts another one, which is waited for.
    result = run_closed_loop(
        pause, workers=2, processes=2, count=10, spread=spread_load
    )
    assert result.completed == 10


def test_clocks_that_are_apart_are_refused(spread_load, monkeypatch):
    real = load.wall_clock_ns
    monkeypatch.setattr(load, "wall_clock_ns", lambda clock: real(clock) + 2 * 10**9)

    with pytest.raises(LoadError, match=r"differ by at least 1\d{3} ms.*NTP"):
        run_closed_loop(pause, workers=2, processes=2, count=2, spread=spread_load)


def test_more_processes_than_slots_are_refused(spread_load, monkeypatch):
    monkeypatch.setattr(load, "_SLOTS_TIMEOUT_S", 0.1)

    with pytest.raises(ConfigError, match="processes=3 needs as many slots"):
        run_closed_loop(pause, workers=3, processes=3, count=3, spread=spread_load)


def test_what_cannot_be_sent_is_refused_with_the_way_out(spread_load):
    lock = threading.Lock()

    with pytest.raises(ConfigError, match="Open connections in process_setup"):
        run_closed_loop(
            lambda _: lock.locked(), workers=2, processes=2, count=2, spread=spread_load
        )


def test_a_password_in_the_plan_reaches_no_log_and_no_file(spread_load, spark, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("py4j").setLevel(logging.DEBUG)
    with pytest.raises(RefusedError):
        run_closed_loop(
            Connected(PASSWORD),
            workers=2,
            processes=2,
            count=10,
            process_setup=refuse,
            spread=spread_load,
        )
    run_closed_loop(
        Connected(PASSWORD), workers=2, processes=2, count=10, spread=spread_load
    )

    warehouse = spark.conf.get("spark.sql.warehouse.dir").removeprefix("file:")
    folders = [Path(warehouse).parent, load_home() / spark.sparkContext.applicationId]
    files = [f for folder in folders for f in folder.rglob("*") if f.is_file()]
    assert any(file.name == "spark.log" for file in files)
    forms = [PASSWORD.encode()] + [
        # Inside longer base64 text: whole groups of three bytes, at any offset.
        base64.b64encode(PASSWORD[skip:].encode())[:12]
        for skip in range(3)
    ]
    for form in forms:
        assert form.decode() not in caplog.text
        assert not [file for file in files if form in file.read_bytes()]


def load_home():
    import pyspark

    return Path(pyspark.__file__).parent / "work"
