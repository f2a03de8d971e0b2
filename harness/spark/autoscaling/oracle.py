"""The cheapest plan that keeps the objective, for one who knows the load beforehand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import ConfigError
from harness.spark.autoscaling.policies import PlannedPolicy
from harness.spark.autoscaling.simulator import backlog_allowed, rows_per_tick

if TYPE_CHECKING:
    from harness.spark.autoscaling.capacity import CapacityCurve
    from harness.spark.autoscaling.simulator import Cluster, Counts


@dataclass(frozen=True, slots=True)
class _States:
    """States at one number of workers, none of which is worse than another.

    All of shape (states,). A state is worse if it costs no less, and has no fewer
    rows left.

    Attributes:
        cost: Paid worker-ticks, what is to be paid for draining included.
        changes: Workers started or let go so far.
        backlog: Rows left.
        came_from: Workers of the interval before.
        came_index: Which state there.
    """

    cost: Counts
    changes: Counts
    backlog: Counts
    came_from: Counts
    came_index: Counts

    def best(self) -> _States:
        """Return those that no other beats: cheaper, or with fewer rows left."""
        order = np.lexsort((self.backlog, self.changes, self.cost))
        backlog = self.backlog[order]
        before = np.minimum.accumulate(backlog)
        kept = order[np.concatenate(([True], backlog[1:] < before[:-1]))[: len(order)]]
        return _States(*(getattr(self, name)[kept] for name in self.__slots__))


def oracle(
    arrivals: Counts, capacity: CapacityCurve, cluster: Cluster
) -> PlannedPolicy:
    """Return the plan with the fewest paid worker-seconds in which no row is late.

    Exact, by dynamic programming over the decisions: of all ways to arrive at a
    number of workers, those are kept that no other beats in both cost and backlog
    (a Pareto frontier), and no other can become the best. Every policy that keeps
    the objective under `simulate` pays at least as much.

    Raises:
        ConfigError: If even the most workers cannot keep the objective.
    """
    step = cluster.ticks(cluster.decision_s)
    delay = cluster.start_s // cluster.decision_s
    allowed = backlog_allowed(arrivals, cluster)
    levels = range(cluster.workers_min, cluster.workers_max + 1)
    nothing = np.zeros(1, dtype=np.int64)
    start = _States(nothing, nothing, nothing, nothing, nothing)
    history: list[dict[int, _States]] = [{cluster.workers_min: start}]
    for begin in range(0, len(arrivals), step):
        span = slice(begin, begin + step)
        reached: dict[int, _States] = {}
        for level in levels:
            power = rows_per_tick(capacity, level, cluster.tick_s)
            # Who works now was asked for `delay` decisions ago; before the first
            # decision nobody could be.
            can_grow = begin >= delay * step
            entered = _entered(
                history[-1],
                level,
                cluster,
                can_grow=can_grow,
                left=len(arrivals) - begin,
            )
            if entered is None:
                continue
            after = _work(entered, level, power, arrivals[span], allowed[span])
            if len(after.cost):
                reached[level] = after.best()
        if not reached:
            msg = (
                f"workers_max={cluster.workers_max} cannot keep every row's wait under "
                f"lag_max_s={cluster.lag_max_s}: at {begin * cluster.tick_s} s it is "
                "exceeded whatever is done; raise one of the two"
            )
            raise ConfigError(msg)
        history.append(reached)
    return PlannedPolicy(name="oracle", plan=_plan(_path(history), delay))


def _entered(
    before: dict[int, _States],
    level: int,
    cluster: Cluster,
    *,
    can_grow: bool,
    left: int,
) -> _States | None:
    """Return all states that can go on with *level* workers, what it costs paid."""
    parts = []
    for previous, states in before.items():
        change = level - previous
        if change > 0 and not can_grow:
            continue
        # The start is paid before the work; draining after it, until the end.
        price = (
            change * cluster.ticks(cluster.start_s)
            if change > 0
            else -change * min(cluster.ticks(cluster.drain_s), left)
        )
        count = len(states.cost)
        parts.append(
            _States(
                states.cost + price,
                states.changes + abs(change),
                states.backlog,
                np.full(count, previous, dtype=np.int64),
                np.arange(count, dtype=np.int64),
            )
        )
    if not parts:
        return None
    return _States(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in _States.__slots__
        )
    )


def _work(
    states: _States, level: int, power: int, arrivals: Counts, allowed: Counts
) -> _States:
    """Return the states after an interval, without those in which a row is late."""
    backlog = states.backlog
    kept = np.ones(len(backlog), dtype=np.bool_)
    for arrived, most in zip(arrivals.tolist(), allowed.tolist(), strict=True):
        backlog = np.maximum(backlog + arrived - power, 0)
        kept &= backlog <= most
    return _States(
        (states.cost + level * len(arrivals))[kept],
        states.changes[kept],
        backlog[kept],
        states.came_from[kept],
        states.came_index[kept],
    )


def _path(history: list[dict[int, _States]]) -> list[int]:
    """Return the workers of each interval on the cheapest way to the end."""
    ends = [
        (states.cost[0], states.changes[0], level)
        for level, states in history[-1].items()
    ]
    level = min(ends)[2]
    index, path = 0, []
    for reached in reversed(history[1:]):
        path.append(level)
        states = reached[level]
        level, index = int(states.came_from[index]), int(states.came_index[index])
    return path[::-1]


def _plan(path: list[int], delay: int) -> tuple[int, ...]:
    """Return the decisions that make a path: starts are asked for in advance."""
    rises = [max(0, now - then) for then, now in itertools.pairwise(path)]
    return tuple(
        workers + sum(rises[index : index + delay])
        for index, workers in enumerate(path)
    )
