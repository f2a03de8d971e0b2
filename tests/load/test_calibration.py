"""The generator knows what it costs, and picks its crew from that and Little's law."""

from __future__ import annotations

import math

import pytest

from harness.errors import ConfigError
from harness.load import poisson_arrivals, run_open_loop
from harness.load.calibration import (
    Calibration,
    Floor,
    calibrate,
    calibrated,
    pick_workers,
    usable_cores,
)
from harness.load.search import SearchResult


def planted(*, cores=4, ceiling_per_s=60_000.0, operation_ns=1000.0):
    return Calibration(
        cores=cores,
        floors=(
            Floor(
                workers=1,
                processes=1,
                throughput_per_s=1e9 / operation_ns,
                operation_ns=operation_ns,
            ),
        ),
        ceiling_per_s=ceiling_per_s,
        start_delay_limit_s=0.0005,
        search=SearchResult(
            held_per_s=ceiling_per_s,
            violated_per_s=None,
            probes=(),
            ended="planted",
            complete=True,
        ),
        wall_s=1.0,
    )


@pytest.mark.parametrize(
    ("rate_per_s", "service_time_s", "client_cpu_s", "workers", "processes"),
    [
        (1, 0.001, 0.0, 2, 1),  # nearly idle: one, and one more
        (100, 0.001, 0.0, 3, 1),  # 0.1 in flight, 4 * 0.32 more
        (1000, 0.01, 0.0, 24, 2),  # 10 in flight + 12.6, at most 16 a process
        (5000, 0.0002, 42e-6, 6, 2),  # 1 in flight; 55 % of a core makes 12,790/s
        (30_000, 0.0001, 42e-6, 12, 3),  # the rate asks for three
        (100_000, 0.00001, 0.0, 6, 2),  # nothing but the ceiling
    ],
)
def test_the_crew_follows_from_littles_law_and_what_a_process_makes(
    rate_per_s, service_time_s, client_cpu_s, workers, processes
):
    crew = pick_workers(
        rate_per_s=rate_per_s,
        service_time_s=service_time_s,
        client_cpu_s=client_cpu_s,
        calibration=planted(),
    )
    assert (crew.workers, crew.processes) == (workers, processes)
    assert crew.enough
    assert f"{workers} workers in {processes} process" in crew.reason
    assert "Little's law" in crew.reason
    assert "60,000/s" in crew.reason


def test_a_crew_never_has_more_processes_than_cores_and_says_what_that_means():
    crowded = pick_workers(
        rate_per_s=200, service_time_s=0.5, calibration=planted(cores=2)
    )
    assert (crowded.workers, crowded.processes, crowded.enough) == (142, 2, True)
    assert "71 threads per process where 16 are known to work" in crowded.reason
    beyond = pick_workers(
        rate_per_s=90_000,
        service_time_s=0.0001,
        client_cpu_s=5e-5,
        calibration=planted(cores=2),
    )
    assert beyond.processes == 2
    assert not beyond.enough
    assert "NOT ENOUGH: 2 cores make about 21,569/s" in beyond.reason


def test_every_process_has_the_same_number_of_workers():
    for rate in range(500, 60_000, 700):
        crew = pick_workers(
            rate_per_s=rate,
            service_time_s=0.0007,
            client_cpu_s=4e-5,
            calibration=planted(cores=8),
        )
        assert crew.workers % crew.processes == 0
        assert 1 <= crew.processes <= 8
        in_flight = rate * 0.0007
        assert crew.workers > in_flight + 4 * math.sqrt(in_flight)


def test_a_machine_too_busy_for_a_ceiling_is_planned_by_cpu_time_and_says_so():
    crew = pick_workers(
        rate_per_s=5000,
        service_time_s=0.0002,
        client_cpu_s=42e-6,
        calibration=planted(ceiling_per_s=None),
    )
    assert (crew.workers, crew.processes, crew.enough) == (6, 2, True)
    assert "the machine is busy" in crew.reason
    assert "the machine is busy" in planted(ceiling_per_s=None).describe()


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_per_s": 0.0},
        {"rate_per_s": math.inf},
        {"service_time_s": -1.0},
        {"client_cpu_s": 0.002},
    ],
)
def test_an_impossible_crew_is_refused(changes):
    arguments = {"rate_per_s": 10.0, "service_time_s": 0.001, **changes}
    with pytest.raises(ConfigError):
        pick_workers(**arguments, calibration=planted())


def test_workers_picked_are_enough_for_arrivals_by_chance():
    """Of the arrivals at a server of fixed service time fewer than 1 in 1,000 wait."""
    crew = pick_workers(rate_per_s=500, service_time_s=0.02, calibration=planted())
    offsets = [
        int(offset)
        for chunk in poisson_arrivals(rate_per_s=500, duration_s=200, seed=5).chunks()
        for offset in chunk
    ]
    free_at = [0] * crew.workers
    waited = 0
    for offset in offsets:
        first = min(range(crew.workers), key=free_at.__getitem__)
        waited += free_at[first] > offset
        free_at[first] = max(free_at[first], offset) + 20_000_000
    assert waited / len(offsets) < 0.001


def test_this_machine_is_calibrated_and_only_once():
    found = calibrated()
    assert found is calibrated()
    assert found.cores == usable_cores()
    assert 1 <= len(found.search.probes) <= 10
    # 1.8 s of search, then three floors of 0.1 s, one of them in two new processes.
    assert found.wall_s < 15
    assert {(floor.workers, floor.processes) for floor in found.floors} >= {(1, 1)}
    for floor in found.floors:
        # An operation through the engine costs more than a call, less than a query.
        assert 100 < floor.operation_ns < 50_000
    assert "generator over nothing" in found.describe()


def test_a_limit_that_nothing_holds_leaves_no_ceiling():
    found = calibrate(start_delay_limit_s=1e-9)
    assert found.ceiling_per_s is None
    assert found.search.held_per_s is None
    assert "held no rate tried" in found.describe()


def test_a_crew_picked_here_runs():
    crew = pick_workers(
        rate_per_s=500, service_time_s=0.001, calibration=planted(cores=1)
    )
    result = run_open_loop(
        lambda _: None,
        poisson_arrivals(rate_per_s=500, duration_s=0.2),
        workers=crew.workers,
        processes=crew.processes,
    )
    assert result.completed == result.scheduled
