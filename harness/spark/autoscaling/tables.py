"""Tables of capacity: one of what was measured, others of what follows from it.

A number that nobody measured never stands beside one that was: each table holds one
kind, and its title says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spark.autoscaling.measured import curve_of
from harness.spark.autoscaling.oracle import oracle
from harness.spark.autoscaling.phases import SURGE_LOAD
from harness.spark.autoscaling.policies import (
    IdlePolicy,
    StaticPolicy,
    UtilizationQueuePolicy,
)
from harness.spark.autoscaling.simulator import Cluster, arrivals_of, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.spark.autoscaling.capacity import CapacityCurve
    from harness.spark.autoscaling.measured import CapacityPoint
    from harness.spark.autoscaling.phases import PhasedLoad
    from harness.spark.autoscaling.simulator import Simulation

BEYOND = (4, 8, 16)
# How far beyond this machine the simulated cluster may grow, and what share of what
# that gets through it is offered at most.
_GROWTH_MAX = 4
_PEAK_SHARE = 0.75


def measured_table(points: Sequence[CapacityPoint]) -> str:
    """Return the table of what was run."""
    return _table(
        "Measured",
        ("workers", "rows/s", "slowest", "fastest", "CPU-s per M rows", "batches"),
        (
            (
                str(point.workers),
                f"{point.rows_per_s:,.0f}",
                f"{min(point.batch_rows_per_s):,.0f}",
                f"{max(point.batch_rows_per_s):,.0f}",
                f"{point.cpu_s_per_million_rows:.2f}",
                str(len(point.batch_rows_per_s)),
            )
            for point in points
        ),
    )


def extrapolated_table(curve: CapacityCurve, workers: Iterable[int] = BEYOND) -> str:
    """Return the table of what a law says of numbers of workers nobody ran.

    Numbers that were measured are left out: they have their own table.
    """
    return _table(
        f"Extrapolated, not measured ({curve.law})",
        ("workers", "rows/s"),
        (
            (str(count), f"{curve.rows_per_s(count):,.0f}")
            for count in workers
            if curve.is_extrapolated(count)
        ),
    )


def simulated_cluster(points: Sequence[CapacityPoint]) -> Cluster:
    """Return a cluster that starts with what was measured last, and may grow."""
    most = max(point.workers for point in points)
    return Cluster(workers_min=most, workers_max=_GROWTH_MAX * most)


def simulations(
    curve: CapacityCurve, load: PhasedLoad, cluster: Cluster
) -> list[Simulation]:
    """Run each policy, and the cheapest plan, against a load on this capacity."""
    arrivals = arrivals_of(load, cluster.tick_s)
    policies = (
        StaticPolicy(cluster.workers_max),
        UtilizationQueuePolicy(),
        IdlePolicy(),
        oracle(arrivals, curve, cluster),
    )
    return [simulate(arrivals, curve, policy, cluster) for policy in policies]


def fitting_load(curve: CapacityCurve, cluster: Cluster) -> PhasedLoad:
    """Return the surge of the demo, sized to what the cluster can get through.

    Its peak is three quarters of the capacity of the most workers.
    """
    peak_per_s = SURGE_LOAD.rows_per_s(SURGE_LOAD.cycle_s - 1)
    wanted_per_s = _PEAK_SHARE * curve.rows_per_s(cluster.workers_max)
    return SURGE_LOAD.scaled(rate=wanted_per_s / peak_per_s)


def simulated_table(found: Sequence[Simulation]) -> str:
    """Return the table of what policies would do."""
    title = "Simulated, not measured"
    if any(simulation.extrapolated for simulation in found):
        title += ", partly on extrapolated capacity"
    return _table(
        title,
        ("policy", "worker-s", "p99 lag s", "violated s", "rescales"),
        (
            (
                simulation.policy,
                f"{simulation.worker_s:,}",
                f"{simulation.lag_s_p99:g}",
                str(simulation.violation_s),
                str(simulation.rescales_count),
            )
            for simulation in found
        ),
    )


def all_tables(points: Sequence[CapacityPoint]) -> str:
    """Return the three tables, one after the other."""
    curve = curve_of(points)
    cluster = simulated_cluster(points)
    found = simulations(curve, fitting_load(curve, cluster), cluster)
    return "\n".join(
        (measured_table(points), extrapolated_table(curve), simulated_table(found))
    )


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"{title}:", "", _row(heads), _row(["---"] * len(heads))]
    return "\n".join([*lines, *(_row(row) for row in rows), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
