"""What does the load engine cost, and how late does it start an operation?

The targets stand in the details of each case. They are of two idle cores: a machine
that misses one says so, and a run it spoils is INVALID.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK
from harness.load import (
    LoadResult,
    LogLinearHistogram,
    SampleLog,
    constant_arrivals,
    run_closed_loop,
    run_open_loop,
)
from harness.load.calibration import calibrate, nothing
from harness.load.doubts import generator_delays_ns
from harness.load.samples import SampleRecorder
from harness.reports.summary import case_block, measurement_of_load

RECORDING_TARGET_US = 0.5
MERGE_TARGET_MS = 10.0
SUMMARY_TARGET_S = 0.5
# Over both processes, by how they share them.
# Arrivals per second -> p50 and p99 of the start delay, in ms.
WORKERS = {"held": 4, "interleaved": 16}
# A target that is missed is tried again: one pause of the machine is a p99.
ATTEMPTS = 3
START_DELAY_TARGETS_MS = {1000: (0.05, 0.2), 5000: (0.05, 0.2), 10_000: (0.05, 0.3)}


@pytest.mark.benchmark(group="harness-overhead-recording")
def test_record_one_operation(sized, record_durations):
    """Two readings of the clock and one row: what every operation pays.

    One value is the mean of 1,000 operations; a single one is below what a clock
    resolves.
    """
    batch = 1000
    now = SYSTEM_CLOCK.monotonic_ns
    durations_s, kept = [], 0
    for _ in range(sized(full=1000, smoke=50)):
        recorder = SampleRecorder()
        from_ns = now()
        for _ in range(batch):
            started_ns = now()
            finished_ns = now()
            recorder.append(started_ns, started_ns, started_ns, finished_ns, 0)
        durations_s.append((now() - from_ns) / NS_PER_S / batch)
        kept += len(recorder)

    assert kept == batch * len(durations_s)
    record_durations(
        durations_s,
        measure="recording_time",
        wall_s=sum(durations_s) * batch,
        completed=kept,
        details=against(
            "p50_us", float(np.median(durations_s)) * 1e6, RECORDING_TARGET_US
        ),
    )


@pytest.mark.benchmark(group="harness-overhead-closed-loop")
@pytest.mark.parametrize(
    ("workers", "processes"),
    [(1, 1), (4, 1), (2, 2)],
    ids=["workers=01", "workers=04", "workers=02-processes=02"],
)
def test_closed_loop_over_nothing(workers, processes, sized, record_load):
    """The most operations the engine makes: threads of a process share one interpreter.

    The compared value is the response time of nothing: two readings of the clock.
    What an operation costs the engine is in the details, as is a worker's share.
    """
    result = run_closed_loop(
        nothing,
        workers=workers,
        processes=processes,
        duration_s=sized(full=0.5, smoke=0.2),
    )

    assert result.failed == result.unfinished == 0
    record_load(
        result,
        details={
            "per_worker_per_s": round(result.throughput_per_s / workers),
            "cpu_ns_per_operation": round(result.generator_cpu_ns / result.completed),
        },
    )


@pytest.mark.benchmark(group="harness-overhead-merge")
def test_merge_of_64_histograms(sized, record_durations):
    """What collecting the shares of 64 processes costs."""
    random = np.random.default_rng(1)
    parts = [
        LogLinearHistogram.of(random.lognormal(13, 1, 10_000).astype(np.int64))
        for _ in range(64)
    ]
    durations_s, merged = timed(
        lambda: LogLinearHistogram.merged(parts), times=sized(full=200, smoke=10)
    )

    assert len(merged) == 64 * 10_000
    record_durations(
        durations_s,
        measure="merge_time",
        wall_s=sum(durations_s),
        details=against("p50_ms", float(np.median(durations_s)) * 1e3, MERGE_TARGET_MS),
    )


@pytest.mark.benchmark(group="harness-overhead-summary")
def test_summary_of_a_million_samples(sized, record_durations):
    """Quantiles, intervals, split, doubts and histogram of a finished open loop."""
    count = sized(full=1_000_000, smoke=50_000)
    finished = finished_run(count)

    def summarise():
        # A result remembers what it has computed; a new one does not.
        measurement = measurement_of_load(replace(finished), measure="response_time")
        return case_block(measurement, facts={})

    durations_s, block = timed(summarise, times=sized(full=6, smoke=6))

    assert block.accounting.completed == block.values_count == count
    record_durations(
        durations_s,
        measure="summary_time",
        wall_s=sum(durations_s),
        details=against("p50_s", float(np.median(durations_s)), SUMMARY_TARGET_S)
        | {"samples_count": count, "block_kb": len(block.model_dump_json()) // 1000},
    )


@pytest.mark.benchmark(group="harness-overhead-calibration")
def test_calibration(sized, record_durations):
    """What the generator costs and holds over nothing, found out in at most 3 s."""
    calibrations = [calibrate() for _ in range(sized(full=2, smoke=1))]

    durations_s = [found.wall_s for found in calibrations]
    last = calibrations[-1]
    assert last.search.probes
    record_durations(
        durations_s,
        measure="calibration_time",
        wall_s=sum(durations_s),
        details={"found": last.describe()},
    )


@pytest.mark.benchmark(group="harness-overhead-start-delay")
@pytest.mark.parametrize("rate", [1000, 5000, 10_000], ids="rate={:05d}".format)
def test_start_delay_over_nothing(rate, sized, record_load):
    """Open loop, two threads: how late an operation starts when none takes time.

    Evenly spaced: arrivals by chance would wait for each other as well, and that is
    a queue, not the engine's lateness.
    """
    result = run_open_loop(
        nothing,
        constant_arrivals(rate_per_s=rate, duration_s=sized(full=2.1, smoke=0.3)),
        workers=2,
        warmup_s=0.1,
    )

    assert result.completed == result.scheduled
    record_load(result, details=start_delay(result, rate))


@pytest.mark.benchmark(group="harness-overhead-start-delay")
@pytest.mark.parametrize(
    ("connection", "rate"),
    [
        ("held", 1000),
        ("held", 5000),
        ("held", 10_000),
        ("pool", 5000),
        ("interleaved", 1000),
        ("interleaved", 5000),
        ("interleaved", 10_000),
    ],
    ids=lambda value: f"rate={value:05d}" if isinstance(value, int) else value,
)
def test_start_delay_of_a_point_read(
    connection, rate, postgres, pgbench_tables, sized, record_load, anchor
):
    """The same with a read by primary key, over held connections or a pool's.

    Two processes: of two threads each, of eight workers interleaved in one thread, or
    of one with a pool, because checkout and read keep an interpreter busy nearly all
    of the time. pgbench offers the same right before. Whoever misses the target each
    time is INVALID, and fails where pgbench was better each time.
    """
    from harness.postgres.pool import PoolConfig
    from harness.postgres.workloads import AccountLookup, Held, Pooled, Witness

    if connection in WORKERS:
        source, workers = Held(server=postgres), WORKERS[connection]
    else:
        one = PoolConfig(size_min=1, size_max=1)
        source, workers = Pooled(server=postgres, config=one), 2

    def attempt():
        # A workload serves one run: its witness counts from the beginning.
        workload = AccountLookup(source, pgbench_tables, direct=True)
        pgbench = anchor("select-only", rate_per_s=rate)
        pgbench.run()
        witness = Witness(workload)
        result = run_open_loop(
            workload,
            constant_arrivals(rate_per_s=rate, duration_s=sized(full=2.2, smoke=0.4)),
            workers=workers,
            processes=sized(full=2, smoke=1),
            interleaved=connection == "interleaved",
            warmup_s=0.2,
            process_setup=workload.process_setup,
            process_teardown=workload.process_teardown,
            setup=workload.setup,
            teardown=workload.teardown,
        )
        witness.confirm(result)
        beside = pgbench.details(result.throughput_per_s)
        return result, start_delay(result, rate) | beside

    tried = []
    for _ in range(sized(full=ATTEMPTS, smoke=1)):
        result, details = attempt()
        tried.append(details)
        if details["met"]:
            break
    missed = None
    if sized(full=True, smoke=False) and not details["met"]:
        ours = [each["start_delay_ms_p99"] for each in tried]
        theirs = [each.get("pgbench_start_delay_ms_p99") for each in tried]
        missed = (
            f"the start delay missed its target {len(tried)} times (p99 {ours} ms), "
            f"and pgbench -R beside it had {theirs} ms: repeat on a quiet machine, or "
            "at a lower rate"
        )
    record_load(result, details=details, invalid=missed)
    assert missed is None or not all(map(worse_than_pgbench, tried)), missed


def worse_than_pgbench(details):
    """Tell whether a run missed what pgbench reached right before it."""
    beside = details.get("pgbench_start_delay_ms_p99")
    return beside is not None and details["start_delay_ms_p99"] > max(
        beside, details["target_ms_p99"]
    )


def against(name, value, target):
    """Return a figure beside its target, for the report."""
    return {name: round(value, 4), "target": target, "met": bool(value <= target)}


def start_delay(result, rate):
    """Return the start delay beside its targets, in ms."""
    delays_ms = result.samples.start_delay_ns / NS_PER_MS
    found = [round(float(value), 4) for value in np.quantile(delays_ms, [0.5, 0.99])]
    # Without what arrivals waited for workers that waited for the server.
    lag_ms = generator_delays_ns(result) / NS_PER_MS
    targets = START_DELAY_TARGETS_MS[rate]
    return {
        "start_delay_ms_p50": found[0],
        "target_ms_p50": targets[0],
        "start_delay_ms_p99": found[1],
        "target_ms_p99": targets[1],
        "generator_ms_p99": (
            round(float(np.quantile(lag_ms, 0.99)), 4) if len(lag_ms) else None
        ),
        "pulse_ms_p99": result.pulse and round(result.pulse.late_ns_p99 / NS_PER_MS, 4),
        "met": all(ms <= limit for ms, limit in zip(found, targets, strict=True)),
    }


def timed(function, *, times):
    """Return how long each of several calls took, in seconds, and the last result."""
    result = function()
    durations_s = []
    for _ in range(times):
        from_ns = SYSTEM_CLOCK.monotonic_ns()
        result = function()
        durations_s.append((SYSTEM_CLOCK.monotonic_ns() - from_ns) / NS_PER_S)
    return durations_s, result


def finished_run(count):
    """Return an open loop of 16 workers at 10,000/s as the engine brings it back."""
    random = np.random.default_rng(1)
    wall_ns = count * 100_000
    intended_ns = np.sort(random.integers(0, wall_ns, count))
    worker = random.integers(0, 16, count).astype(np.int16)
    # One worker's samples after the other's, as the engine joins them.
    order = np.argsort(worker, kind="stable")
    intended_ns = intended_ns[order]
    started_ns = intended_ns + random.integers(1000, 30_000, count)
    log = SampleLog(
        intended_ns=intended_ns,
        started_ns=started_ns,
        acquired_ns=started_ns,
        finished_ns=started_ns + random.lognormal(13, 1, count).astype(np.int64),
        worker=worker[order],
        error=np.zeros(count, dtype=np.int16),
    )
    return LoadResult(
        loop="open",
        workers=16,
        samples=log,
        warmup=SampleLog.empty(),
        measure_from_ns=0,
        wall_ns=wall_ns,
        generator_cpu_ns=wall_ns // 10,
        generator_cpu_ns_max=wall_ns // 10,
    )
