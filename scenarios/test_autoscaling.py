"""More workers for more load: what each core adds, and Spark adding executors itself.

Both start sessions of their own, in processes of their own: the session of the run
has the number of workers it has.
"""

from __future__ import annotations

import pytest

from harness.spark.autoscaling.allocation import IDLE_S, allocate_elsewhere
from harness.spark.autoscaling.measured import curve_of, measure_elsewhere
from harness.spark.autoscaling.tables import (
    BEYOND,
    fitting_load,
    simulated_cluster,
    simulations,
)

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.needs("cpu")]


@pytest.mark.benchmark(group="stream-capacity")
def test_capacity_of_one_core_two_and_all(sized, record_durations):
    """The compared value is the duration of a micro-batch on all cores.

    What was measured, what a law says beyond, and what policies would make of it are
    three entries of the record; only the first is a measurement.
    """
    rows_per_batch = sized(full=200_000, smoke=20_000)

    points = measure_elsewhere(
        rows_per_batch=rows_per_batch,
        batches_count=sized(full=15, smoke=7),
        quick=sized(full=False, smoke=True),
    )

    curve = curve_of(points)
    cluster = simulated_cluster(points)
    simulated = simulations(curve, fitting_load(curve, cluster), cluster)
    # The plan of one who knows the load costs no more than a cluster that is large
    # enough all the time, and neither lets a row be late.
    assert simulated[-1].policy == "oracle"
    assert simulated[-1].violation_s == 0
    assert simulated[-1].worker_s <= simulated[0].worker_s
    durations_s = [rows_per_batch / rate for rate in points[-1].batch_rows_per_s]
    record_durations(
        durations_s,
        measure="batch_duration",
        wall_s=sum(durations_s),
        completed=rows_per_batch * len(durations_s),
        details={
            "measured_rows_per_s": {p.workers: round(p.rows_per_s) for p in points},
            "measured_cpu_s_per_million_rows": {
                p.workers: p.cpu_s_per_million_rows for p in points
            },
            "measured_on_pinned_cores": all(p.pinned for p in points),
            "extrapolated_rows_per_s": {
                n: round(curve.rows_per_s(n))
                for n in BEYOND
                if curve.is_extrapolated(n)
            },
            "extrapolated_by": curve.law,
            "simulated_worker_s": {s.policy: s.worker_s for s in simulated},
            "simulated_violation_s": {s.policy: s.violation_s for s in simulated},
        },
    )


@pytest.mark.benchmark(group="stream-dynamic-allocation")
def test_executors_come_with_work_and_go_when_idle(record_durations):
    """Spark's own dynamic allocation, by Spark's own events; the totals are proved."""
    run = allocate_elsewhere()

    first, last = run.changes[0], run.changes[-1]
    last_work_at_s = max(end for _, end, _ in run.batches)
    assert first.executors == last.executors == run.executors_min
    assert run.executors_min < run.peak <= run.executors_max
    assert any(
        start < change.at_s
        for start, _, _ in run.batches
        for change in run.changes
        if change.executors > run.executors_min
    )
    gone = [change for change in run.changes if change.reason]
    assert len(gone) >= run.peak - run.executors_min
    record_durations(
        [end - start for start, end, _ in run.batches],
        measure="batch_duration",
        wall_s=last_work_at_s - run.batches[0][0],
        completed=sum(rows for _, _, rows in run.batches),
        details={
            **run.figures(),
            "executors_idle_limit_s": IDLE_S,
            "until_one_was_left_s": round(last.at_s - last_work_at_s, 1),
        },
    )
