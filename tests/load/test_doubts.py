"""A result doubts itself for a reason, and is discarded only past its limit."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK
from harness.load import LoadResult, run_closed_loop, run_open_loop
from harness.load.doubts import doubts_about, generator_delays_ns
from harness.load.fairness import jain_index
from harness.load.pulse import Pulse, PulseTaker
from harness.load.samples import SampleLog
from harness.load.schedules import constant_arrivals
from harness.load.steady import drift, warmup_length, warmup_share
from harness.load.surroundings import Surroundings, watch_surroundings


def make_log(*, intended_ns, started_ns=None, service_ns=NS_PER_MS, workers=1):
    intended_ns = np.asarray(intended_ns, dtype=np.int64)
    started_ns = intended_ns if started_ns is None else np.asarray(started_ns)
    count = len(intended_ns)
    return SampleLog(
        intended_ns=intended_ns,
        started_ns=started_ns.astype(np.int64),
        acquired_ns=started_ns.astype(np.int64),
        finished_ns=(started_ns + service_ns).astype(np.int64),
        worker=(np.arange(count) % workers).astype(np.int16),
        error=np.zeros(count, dtype=np.int16),
    )


def make_result(samples=None, *, loop="open", workers=4, wall_s=20, **changes):
    if samples is None:
        samples = make_log(
            intended_ns=np.arange(2000) * (wall_s * NS_PER_S // 2000), workers=workers
        )
    fields = {
        "loop": loop,
        "workers": workers,
        "samples": samples,
        "warmup": SampleLog.empty(),
        "measure_from_ns": 0,
        "wall_ns": wall_s * NS_PER_S,
        "generator_cpu_ns": NS_PER_S,
        "generator_cpu_ns_max": NS_PER_S,
    }
    return LoadResult(**fields | changes)


def test_a_quiet_steady_run_has_no_doubts():
    assert doubts_about(make_result()) == []
    assert doubts_about(make_result(loop="closed")) == []


CPU = "generator_cpu_ns_max"
AROUND = "surroundings"


@pytest.mark.parametrize(
    ("changes", "words", "invalid"),
    [
        ({"clock_skew_ns": 900 * NS_PER_MS}, "900 ms apart", False),
        ({CPU: 18 * NS_PER_S}, "used more than 85% of a core", False),
        ({CPU: 20 * NS_PER_S}, "used more than 97% of a core", True),
        ({CPU: 20 * NS_PER_S, "loop": "closed"}, "limit of the client", False),
        (
            {"surroundings": Surroundings(others=0.3, stolen=0)},
            "other processes",
            False,
        ),
        ({"surroundings": Surroundings(others=0.8, stolen=0)}, "other processes", True),
        ({"surroundings": Surroundings(others=0, stolen=0.1)}, "the host took", False),
        ({"surroundings": Surroundings(others=0, stolen=0.3)}, "the host took", True),
        ({"dropped": 10}, "10 of 2010 arrivals were dropped", False),
        ({"unfinished": 1}, "1 operations never returned", True),
        ({"interrupted": True}, "interrupted", True),
    ],
)
def test_each_reason_is_a_sentence_and_its_limit_disqualifies(changes, words, invalid):
    [doubt] = doubts_about(make_result(**changes))
    assert words in doubt.sentence
    assert doubt.invalid is invalid


def test_too_few_operations_for_p99_are_named():
    samples = make_log(intended_ns=np.arange(367) * 50 * NS_PER_MS)
    [doubt] = doubts_about(make_result(samples))
    assert "fewer than 368 operations" in doubt.sentence


def test_starved_workers_disqualify_a_closed_loop():
    samples = make_log(intended_ns=np.arange(2000) * 10 * NS_PER_MS, workers=12)
    first, *_ = doubts_about(make_result(samples, loop="closed", workers=16))
    assert first.sentence.startswith("4 of 16 workers finished nothing")
    assert first.invalid


def test_uneven_service_is_doubted():
    samples = make_log(intended_ns=np.arange(2000) * 10 * NS_PER_MS)
    mostly_one = np.where(np.arange(2000) % 4 == 0, np.arange(2000) // 4 % 4, 0)
    samples = SampleLog(
        **{
            name: getattr(samples, name)
            for name in ("intended_ns", "started_ns", "acquired_ns", "finished_ns")
        },
        worker=mostly_one.astype(np.int16),
        error=samples.error,
    )
    [doubt] = doubts_about(make_result(samples, loop="closed"))
    assert "served unevenly" in doubt.sentence
    assert doubt.invalid


def test_a_generator_that_starts_late_disqualifies_an_open_loop():
    intended = np.arange(2000) * 10 * NS_PER_MS
    late = make_log(intended_ns=intended, started_ns=intended + 6 * NS_PER_MS)
    [doubt] = doubts_about(make_result(late))
    assert "started 6 ms late (p99) while a worker was free, of 7 ms" in doubt.sentence
    assert doubt.invalid


def test_waiting_for_a_busy_server_is_not_the_generators_lateness():
    """One worker, served in 15 ms, asked every 10 ms: the wait is the server's."""
    intended = np.arange(2000) * 10 * NS_PER_MS
    started = np.arange(2000) * 15 * NS_PER_MS
    samples = make_log(
        intended_ns=intended, started_ns=started, service_ns=15 * NS_PER_MS
    )
    result = make_result(samples, workers=1)
    assert generator_delays_ns(result).max() == 0
    assert doubts_about(result) == []


def test_a_worker_that_takes_the_next_arrival_late_is_the_generators_doing():
    """One worker, always asked for more: 1 ms passes between two operations.

    Every arrival finds it busy, so none counts as one that found a worker free.
    """
    intended = np.arange(2000) * 10 * NS_PER_MS
    started = np.arange(2000) * 16 * NS_PER_MS
    samples = make_log(
        intended_ns=intended, started_ns=started, service_ns=15 * NS_PER_MS
    )
    delays = generator_delays_ns(make_result(samples, workers=1))
    assert np.quantile(delays, 0.99) == NS_PER_MS


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.1, "interpreter lock"), (0.9, "a processor"), (None, "lock")],
)
@pytest.mark.parametrize(
    ("late_ms", "loop", "found"),
    [
        (0.15, "open", []),
        (0.4, "open", [False]),
        (0.7, "open", [True]),
        (0.7, "closed", [False]),
    ],
)
def test_waiting_to_run_is_a_doubt_of_its_own(late_ms, loop, found, share, words):
    """The response time is 1 ms: half of it and 0.5 ms are the limit."""
    pulse = Pulse(beats=400, late_ns_p99=late_ms * NS_PER_MS, processor_share=share)
    doubts = doubts_about(make_result(loop=loop, pulse=pulse))
    assert [doubt.invalid for doubt in doubts] == found
    assert all(words in doubt.sentence for doubt in doubts)


def test_on_a_crowded_machine_the_lock_is_not_blamed_alone():
    doubts = doubts_about(
        make_result(
            pulse=Pulse(beats=400, late_ns_p99=0.4 * NS_PER_MS, processor_share=0.1),
            surroundings=Surroundings(others=0.5, stolen=0),
        )
    )
    [found] = [doubt for doubt in doubts if "code of the generator" in doubt.sentence]
    assert "a processor or the interpreter lock" in found.sentence


def test_workers_of_one_thread_are_not_told_of_the_lock():
    """They hand none around: each waits until the others have had their turn."""
    pulse = Pulse(
        beats=400,
        late_ns_p99=0.7 * NS_PER_MS,
        processor_share=0.1,
        one_thread=True,
    )
    [found] = doubts_about(make_result(loop="open", pulse=pulse))
    assert found.invalid
    assert "its turn in the one thread of its workers" in found.sentence
    assert found.sentence.endswith("use more processes, or lower the rate")


def take_two_milliseconds(context):
    """Keep the thread for as long, whatever it is."""
    until_ns = SYSTEM_CLOCK.monotonic_ns() + 2 * NS_PER_MS
    while SYSTEM_CLOCK.monotonic_ns() < until_ns:
        context.acquired()


async def take_two_milliseconds_in_a_task(context):
    take_two_milliseconds(context)


@pytest.mark.parametrize(
    ("operation", "interleaved"),
    [(take_two_milliseconds, True), (take_two_milliseconds_in_a_task, False)],
    ids=["interleaved", "tasks"],
)
def test_the_pulse_of_one_thread_is_as_late_as_a_turn_of_all_its_workers(
    operation, interleaved
):
    """Four workers of 2 ms each keep whoever has an answer waiting for up to 8 ms."""

    def pulse_among(workers):
        return run_closed_loop(
            operation, workers=workers, duration_s=0.4, interleaved=interleaved
        ).pulse

    crowd = pulse_among(4)
    # The best of some: other work on the machine makes a pulse late as well.
    alone = min((pulse_among(1) for _ in range(3)), key=lambda p: p.late_ns_p99)
    assert crowd.one_thread
    assert crowd.beats > 50
    assert crowd.late_ns_p99 > 5 * NS_PER_MS
    assert crowd.late_ns_p99 > alone.late_ns_p99


def test_a_worker_without_further_arrivals_delays_nobody_by_its_tear_down():
    """Of eight, seven have done their last one while the eighth waits for its own."""
    blocked = threading.Event()

    def start_delay_max_ns():
        result = run_open_loop(
            lambda _: None,
            constant_arrivals(rate_per_s=100, duration_s=0.2),
            workers=8,
            interleaved=True,
            teardown=lambda _: blocked.wait(0.05),
        )
        return result.samples.start_delay_ns.max()

    # The least of some: other work on the machine starts operations late as well.
    assert min(start_delay_max_ns() for _ in range(3)) < 20 * NS_PER_MS


def test_a_pulse_sees_threads_that_hand_the_interpreter_lock_around():
    """Pure Python in other threads holds the lock for 5 ms at a time."""

    def pulse_among(threads_count):
        over = threading.Event()

        def burn():
            while not over.is_set():
                sum(range(500))

        threads = [threading.Thread(target=burn) for _ in range(threads_count)]
        for thread in threads:
            thread.start()
        taker = PulseTaker()
        threading.Event().wait(0.3)
        over.set()
        for thread in threads:
            thread.join()
        return taker.finish(0, SYSTEM_CLOCK.monotonic_ns())

    crowded = pulse_among(3)
    # The best of some: other work on the machine makes a pulse late as well.
    alone = min((pulse_among(0) for _ in range(5)), key=lambda p: p.late_ns_p99)
    assert alone.beats > 50
    assert crowded.late_ns_p99 > 5 * NS_PER_MS
    assert crowded.late_ns_p99 > alone.late_ns_p99


def test_a_generator_late_among_many_workers_is_found_out():
    """Two of four workers stay free, yet every tenth arrival starts 20 ms late."""
    intended = np.arange(5000) * 4 * NS_PER_MS
    late = np.where(np.arange(5000) % 10 == 0, 20 * NS_PER_MS, 0)
    samples = make_log(intended_ns=intended, started_ns=intended + late)
    delays = generator_delays_ns(make_result(samples, workers=40))
    assert (delays > 0).sum() == 500


def test_a_closed_loop_that_slows_down_is_not_steady():
    gaps = np.linspace(5, 20, 1600) * NS_PER_MS
    samples = make_log(intended_ns=np.cumsum(gaps))
    sentences = [
        d.sentence for d in doubts_about(make_result(samples, loop="closed", workers=1))
    ]
    assert any("throughput fell by more than 20%" in s for s in sentences)


@pytest.mark.parametrize(
    ("shares", "index"), [([5, 5, 5, 5], 1.0), ([1, 0, 0, 0], 0.25), ([2, 1], 0.9)]
)
def test_jain_index_by_hand(shares, index):
    assert jain_index(np.array(shares)) == pytest.approx(index)


def test_the_end_of_a_warm_up_is_found():
    random = np.random.default_rng(1)
    steady = random.normal(1000, 10, 60)
    warming = np.concatenate((np.linspace(100, 950, 8), steady))
    assert 7 <= warmup_length(warming) <= 12
    assert warmup_share(warming) > 0.1
    assert warmup_share(steady) == 0.0
    assert abs(drift(steady)) < 0.02


def test_surroundings_are_shares_of_the_machine():
    finish = watch_surroundings()
    sum(range(300_000))
    seen = finish()
    assert 0 <= seen.others <= 1
    assert 0 <= seen.stolen <= 1


def test_children_that_end_meanwhile_are_not_others():
    burn = (
        "import time; t = time.process_time()\n"
        "while time.process_time() - t < 0.5: pass"
    )
    from_ns, finish = SYSTEM_CLOCK.monotonic_ns(), watch_surroundings()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", burn], check=True)
    seen = finish()
    wall_s = (SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S
    assert seen.own * wall_s * psutil.cpu_count() == pytest.approx(1.1, abs=0.2)
