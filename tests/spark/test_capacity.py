"""What is made of measured capacity; the measuring itself is a scenario."""

from __future__ import annotations

import json

import pytest

from harness import ConfigError, SparkError
from harness.spark.autoscaling.allocation import (
    AllocationRun,
    executor_changes,
    run_allocation,
)
from harness.spark.autoscaling.capacity import CapacityCurve
from harness.spark.autoscaling.measured import (
    CapacityPoint,
    cores,
    curve_of,
    kept_to,
    measure_capacity,
)
from harness.spark.autoscaling.sessions import run_elsewhere
from harness.spark.autoscaling.tables import (
    all_tables,
    extrapolated_table,
    fitting_load,
    measured_table,
    simulated_cluster,
    simulations,
)


def point(workers, rows_per_s):
    return CapacityPoint(
        workers=workers,
        batch_rows_per_s=(rows_per_s * 0.9, rows_per_s, rows_per_s * 1.2),
        cpu_s_per_million_rows=2.5,
        pinned=True,
    )


POINTS = [point(1, 1000.0), point(2, 1500.0)]


def workers_in(table):
    return [line.split("|")[1].strip() for line in table.splitlines()[4:]]


def test_measured_and_extrapolated_never_share_a_table():
    measured = measured_table(POINTS)
    extrapolated = extrapolated_table(curve_of(POINTS), range(1, 5))

    assert measured.startswith("Measured:")
    assert workers_in(measured) == ["1", "2"]
    assert extrapolated.startswith("Extrapolated, not measured (Amdahl's law, 33%")
    assert workers_in(extrapolated) == ["3", "4"]


def test_each_of_the_three_tables_says_what_it_is():
    titles = [line for line in all_tables(POINTS).splitlines() if line.endswith(":")]

    assert titles == [
        "Measured:",
        "Extrapolated, not measured (Amdahl's law, 33% of the work one at a time):",
        "Simulated, not measured, partly on extrapolated capacity:",
    ]


@pytest.mark.parametrize(
    "rates", [(1000, 1500), (1000, 9000), (1000, 700), (1000, 1000)]
)
def test_policies_are_fed_with_measured_capacity_however_noisy(rates):
    points = [point(n, float(rate)) for n, rate in enumerate(rates, start=1)]
    curve, cluster = curve_of(points), simulated_cluster(points)

    found = simulations(curve, fitting_load(curve, cluster), cluster)

    assert [s.policy for s in found][-1] == "oracle"
    assert found[-1].violation_s == 0
    assert found[-1].worker_s <= found[0].worker_s
    for simulation in found:
        left = int(simulation.backlog_rows[-1])
        assert simulation.rows_processed + left == simulation.rows_arrived


def test_workers_that_made_it_slower_are_no_share_of_serial_work():
    assert "more workers were slower" in CapacityCurve({1: 100.0, 2: 80.0}).law


def test_more_workers_than_cores_cannot_be_measured():
    beyond = len(cores()) + 1

    with pytest.raises(
        ConfigError, match=rf"cannot be measured here, got \[{beyond}\]"
    ):
        measure_capacity([1, beyond])
    with pytest.raises(ConfigError, match="batches_count must be > 5"):
        measure_capacity([1], batches_count=5)


def test_processes_are_kept_to_some_cores_only_meanwhile():
    before = cores()

    with kept_to(1) as pinned:
        assert len(cores()) == (1 if pinned else len(before))

    assert cores() == before


def test_failure_elsewhere_is_told():
    with pytest.raises(SparkError, match=r"measured failed: workers must be 1 to"):
        run_elsewhere("harness.spark.autoscaling.measured", "--workers", 10_000)


# --- dynamic allocation


def event(kind, at_s, executor_id, **more):
    name = f"SparkListenerExecutor{kind}"
    about = {"Event": name, "Timestamp": at_s * 1000, "Executor ID": executor_id}
    return json.dumps(about | more) + "\n"


LOG = [
    json.dumps({"Event": "SparkListenerApplicationStart", "Timestamp": 1000}) + "\n",
    event("Added", 2, "0"),
    event("Added", 7, "1"),
    event("Removed", 17, "0", **{"Removed Reason": "idle"}),
]


def test_executors_over_time_are_read_from_the_event_log():
    changes = executor_changes(LOG)

    assert [(c.at_s, c.executors, c.reason) for c in changes] == [
        (2.0, 1, ""),
        (7.0, 2, ""),
        (17.0, 1, "idle"),
    ]


def test_line_that_is_still_being_written_is_left_for_later():
    assert executor_changes([*LOG, event("Added", 20, "2")[:-9]]) == executor_changes(
        LOG
    )


def test_course_and_executor_seconds_of_a_run():
    run = AllocationRun(
        changes=executor_changes(LOG),
        batches=((3.0, 12.0, 100),),
        executors_min=1,
        executors_max=3,
    )

    assert run.figures() == {
        "executors_peak": 2,
        "executors_at_the_end": 1,
        "executor_s": 25.0,
        "executors_course": [[0.0, 1], [5.0, 2], [15.0, 1]],
    }


def test_allocation_without_room_to_grow_is_refused():
    with pytest.raises(ConfigError, match=r"executors_max must be >= 2.*got 1 and"):
        run_allocation(executors_max=1)
