"""Load, capacity and policies of auto-scaling: simulated, so no JVM is needed."""

from __future__ import annotations

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from harness import ConfigError
from harness.load.schedules import RegularArrivals
from harness.spark.autoscaling.capacity import CapacityCurve
from harness.spark.autoscaling.oracle import oracle
from harness.spark.autoscaling.phases import DEMO_LOAD, SURGE_LOAD, Phase, PhasedLoad
from harness.spark.autoscaling.policies import (
    IdlePolicy,
    Observation,
    PlannedPolicy,
    StaticPolicy,
    UtilizationQueuePolicy,
)
from harness.spark.autoscaling.simulator import Cluster, arrivals_of, simulate

LINEAR = CapacityCurve({1: 100.0})
SMALL = Cluster(
    workers_max=3, start_s=2, drain_s=1, decision_s=2, lag_max_s=2, tick_s=1
)


def seen(**given):
    """Return an observation of a quiet cluster, but for what is given."""
    quiet = {"at_s": 0.0, "workers": 4, "utilization": 0.7, "backlog_rows": 0}
    return Observation(**{**quiet, "backlog_s": 0.0, **given})


# --- the load


@pytest.mark.parametrize(
    ("at_s", "rows_per_s"),
    [(0, 50_000), (179, 50_000), (180, 53_000), (360, 62_000), (599, 62_000)],
)
def test_demo_load_is_the_one_the_demo_sends(at_s, rows_per_s):
    assert DEMO_LOAD.rows_per_s(at_s) == rows_per_s


def test_each_cycle_begins_with_the_first_phase_again():
    load = PhasedLoad(phases=SURGE_LOAD.phases, cycles_count=2)

    assert load.rows_per_s(599) == 450_000
    assert load.rows_per_s(600) == 50_000
    assert load.duration_s == 1200


def test_scaled_load_keeps_its_shape():
    small = SURGE_LOAD.scaled(rate=0.01, time=0.1, streams=0.1)

    assert [small.rows_per_s(at_s) for at_s in (0, 18, 36)] == [50, 150, 450]
    assert small.duration_s == 60


def test_profile_offers_the_load_to_the_engine_row_by_row():
    load = DEMO_LOAD.scaled(rate=0.001, time=0.1)
    offsets = np.concatenate(list(RegularArrivals(load.profile()).chunks()))
    by_second = np.bincount(offsets // 1_000_000_000, minlength=60)

    assert by_second[10] == 50
    assert by_second[20] == 53
    assert by_second[59] == 62
    assert len(offsets) == arrivals_of(load).sum()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Phase(name="x", streams_count=0, rows_per_s=1), "streams_count.*0"),
        (lambda: Phase(name="x", streams_count=1, rows_per_s=0), "rows_per_s.*got 0"),
        (lambda: PhasedLoad(phases=()), "from_s=0"),
        (lambda: PhasedLoad(phases=DEMO_LOAD.phases, cycle_s=300), "'9x'.*got 360"),
        (lambda: DEMO_LOAD.scaled(time=0), "time must be > 0, got 0"),
        (lambda: CapacityCurve({}), "at least one"),
        (lambda: CapacityCurve({0: 5.0}), "workers must be >= 1"),
        (lambda: Cluster(workers_min=5, workers_max=4), "5 and 4"),
        (lambda: Cluster(start_s=20, decision_s=15), "multiple of decision_s=15"),
        (lambda: Cluster(lag_max_s=0), "lag_max_s.*got 0"),
        (
            lambda: UtilizationQueuePolicy(shrink_below=0.9),
            r"shrink_below=0\.9, utilization_target=0\.8",
        ),
    ],
)
def test_impossible_values_are_refused_by_name(wrong, said):
    with pytest.raises(ConfigError, match=said):
        wrong()


# --- the capacity


def test_measured_capacity_is_given_as_measured():
    curve = CapacityCurve({1: 100.0, 2: 150.0})

    assert [curve.rows_per_s(n) for n in (0, 1, 2)] == [0, 100, 150]
    assert not curve.is_extrapolated(2)


def test_two_points_go_on_by_the_law_of_amdahl():
    # A third of the work is serial: speed-up n / (1 + (n - 1) / 3), at most 3.
    curve = CapacityCurve({1: 100.0, 2: 150.0})

    assert curve.rows_per_s(4) == pytest.approx(200)
    assert curve.rows_per_s(1000) == pytest.approx(300, rel=0.01)
    assert curve.is_extrapolated(4)
    assert "Amdahl's law, 33%" in curve.law


def test_luck_of_a_measurement_is_not_continued():
    # More than twice as fast with two workers: noise, not a law.
    assert CapacityCurve({1: 100.0, 2: 220.0}).rows_per_s(10) == pytest.approx(1100)


def test_four_points_go_on_by_the_scalability_law():
    law = {n: 100 * n / (1 + 0.05 * (n - 1) + 0.01 * n * (n - 1)) for n in range(1, 9)}
    curve = CapacityCurve({n: law[n] for n in (1, 2, 3, 4)})

    assert curve.rows_per_s(8) == pytest.approx(law[8], rel=1e-6)
    assert "a fit, not a measurement" in curve.law


# --- the policies


def test_busy_workers_get_one_more_and_a_long_queue_gets_many():
    policy = UtilizationQueuePolicy(backlog_max_s=5)

    assert policy.decide(seen(utilization=0.9)) == 5
    assert policy.decide(seen(utilization=1.0, backlog_s=20.0)) == 8
    assert policy.decide(seen(utilization=0.2)) == 1
    assert policy.decide(seen(utilization=0.7)) == 4


def test_idle_policy_doubles_its_steps_and_waits_before_it_shrinks():
    policy = IdlePolicy(idle_s=30)

    grown = [policy.decide(seen(backlog_rows=1)) for _ in range(3)]
    idle = [policy.decide(seen(at_s=at_s, utilization=0.1)) for at_s in (0, 20, 30)]

    assert grown == [5, 6, 8]
    assert idle == [4, 4, 3]


# --- the simulation

loads = st.lists(st.integers(0, 400), min_size=4, max_size=30).map(
    lambda rows: np.array(rows, dtype=np.int64)
)
policies = st.sampled_from(
    [
        StaticPolicy(2),
        UtilizationQueuePolicy(backlog_max_s=1),
        IdlePolicy(idle_s=4),
        PlannedPolicy(plan=(99, -5, 2, 0, 3)),
    ]
)


@hypothesis.given(arrivals=loads, policy=policies)
def test_every_row_is_processed_or_left_and_limits_hold(arrivals, policy):
    run = simulate(arrivals, LINEAR, policy, SMALL)

    assert run.rows_arrived == run.rows_processed + run.backlog_rows[-1]
    assert run.rows_arrived == arrivals.sum()
    assert run.workers.min() >= SMALL.workers_min
    assert run.workers.max() <= SMALL.workers_max
    assert run.worker_s >= run.workers.sum()


def test_static_cluster_costs_and_lags_what_the_arithmetic_says():
    # 2 workers do 200 rows/s. 300 rows/s for 10 s leave 1000, gone after 5 s more.
    arrivals = np.array([300] * 10 + [0] * 10, dtype=np.int64)
    cluster = Cluster(workers_min=2, workers_max=2, lag_max_s=3)

    run = simulate(arrivals, LINEAR, StaticPolicy(2), cluster)

    assert run.worker_s == 40
    assert run.backlog_rows[9] == 1000
    assert run.backlog_rows[14] == 0
    # Row n is done after n / 200 s and came after n / 300 s: the last waits 5 s.
    assert run.lag_s_p99 == 5
    # Left at the end of seconds 9 to 15, and what of it came in the last 3 s:
    # 900/900, 1000/900, 800/600, 600/300, 400/0, 200/0, 0/0.
    assert run.violation_s == 5
    assert run.rescales_count == 0


def test_new_worker_is_paid_while_it_starts_and_works_only_then():
    arrivals = np.full(10, 10, dtype=np.int64)

    run = simulate(arrivals, LINEAR, PlannedPolicy(plan=(2, 2, 1)), SMALL)

    # Wanted at 0 s, works at 2 s; let go at 4 s, paid 1 s more.
    assert run.workers.tolist() == [1, 1, 2, 2, 1, 1, 1, 1, 1, 1]
    assert run.worker_s == 10 + 2 + 2 + 1
    assert run.rescales_count == 2


def test_starting_workers_are_let_go_before_working_ones():
    run = simulate(
        np.full(8, 10, dtype=np.int64),
        LINEAR,
        PlannedPolicy(plan=(3, 1)),
        Cluster(workers_max=3, start_s=4, decision_s=2, drain_s=2, lag_max_s=2),
    )

    assert run.workers.tolist() == [1] * 8
    assert run.worker_s == 8 + 2 * 2


def test_extrapolated_capacity_marks_the_result():
    arrivals = np.full(10, 250, dtype=np.int64)

    assert simulate(arrivals, LINEAR, StaticPolicy(3), SMALL).extrapolated
    assert not simulate(arrivals, LINEAR, StaticPolicy(1), SMALL).extrapolated


# --- the oracle


def brute_force(arrivals, cluster):
    """Return the least cost of all plans there are, by trying each."""
    decisions = -(-len(arrivals) // cluster.ticks(cluster.decision_s))
    levels = range(cluster.workers_min, cluster.workers_max + 1)
    runs = (
        simulate(arrivals, LINEAR, PlannedPolicy(plan=plan), cluster)
        for plan in itertools.product(levels, repeat=decisions)
    )
    return min((run.worker_s for run in runs if run.violation_s == 0), default=None)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    arrivals=st.lists(st.integers(0, 350), min_size=1, max_size=10),
    start_s=st.sampled_from([0, 2, 4]),
    drain_s=st.integers(0, 3),
    lag_max_s=st.integers(1, 4),
)
def test_oracle_is_the_best_of_all_plans(arrivals, start_s, drain_s, lag_max_s):
    arrivals = np.array(arrivals, dtype=np.int64)
    cluster = Cluster(
        workers_max=3,
        start_s=start_s,
        drain_s=drain_s,
        decision_s=2,
        lag_max_s=lag_max_s,
    )
    best = brute_force(arrivals, cluster)

    if best is None:
        with pytest.raises(ConfigError, match="workers_max=3"):
            oracle(arrivals, LINEAR, cluster)
        return
    run = simulate(arrivals, LINEAR, oracle(arrivals, LINEAR, cluster), cluster)
    assert run.violation_s == 0
    assert run.worker_s == best


@pytest.mark.parametrize("load", [DEMO_LOAD, SURGE_LOAD], ids=["demo", "surge"])
def test_no_policy_that_keeps_the_objective_is_cheaper_than_the_oracle(load):
    arrivals = arrivals_of(load)
    capacity = CapacityCurve({1: 40_000.0, 2: 78_000.0})
    cluster = Cluster(workers_min=2, workers_max=20)
    best = simulate(arrivals, capacity, oracle(arrivals, capacity, cluster), cluster)
    others = [
        simulate(arrivals, capacity, policy, cluster)
        for policy in (StaticPolicy(20), UtilizationQueuePolicy(), IdlePolicy())
    ]

    assert best.violation_s == 0
    kept = [run for run in others if run.violation_s == 0]
    assert kept, "no other policy kept the objective: nothing is compared"
    assert all(run.worker_s >= best.worker_s for run in kept)
