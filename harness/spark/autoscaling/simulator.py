"""What a policy would have done with a load: a discrete-time simulation.

Nothing in here is measured; a table of it says so. Rows are whole numbers, so that
they can be accounted for exactly: arrived = processed + backlog, at every tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.errors import ConfigError
from harness.spark.autoscaling.policies import Observation

if TYPE_CHECKING:
    from harness.spark.autoscaling.capacity import CapacityCurve
    from harness.spark.autoscaling.phases import PhasedLoad
    from harness.spark.autoscaling.policies import Policy

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Limits and delays of a cluster that scales; all times in whole ticks.

    Attributes:
        workers_min: Fewest workers; the run starts with them.
        workers_max: Most workers, the starting ones included.
        start_s: From the wish for a worker until it works; it is paid from the wish.
        drain_s: A worker that is let go takes no work, and is paid this much longer.
        decision_s: Time between two decisions; `start_s` is a multiple of it.
        tick_s: Resolution of the simulation.
        lag_max_s: A row that waits longer violates the objective.
    """

    workers_min: int = 1
    workers_max: int = 16
    start_s: int = 60
    drain_s: int = 30
    decision_s: int = 15
    tick_s: int = 1
    lag_max_s: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.workers_min <= self.workers_max:
            msg = (
                "1 <= workers_min <= workers_max must hold, got "
                f"{self.workers_min} and {self.workers_max}"
            )
            raise ConfigError(msg)
        if self.tick_s < 1:
            msg = f"tick_s must be >= 1, got {self.tick_s}"
            raise ConfigError(msg)
        for name, least in (
            ("start_s", 0),
            ("drain_s", 0),
            ("decision_s", 1),
            ("lag_max_s", 1),
        ):
            value = getattr(self, name)
            if value < least or value % self.tick_s:
                msg = (
                    f"{name} must be a multiple of tick_s={self.tick_s} and >= {least}"
                    f", got {value}"
                )
                raise ConfigError(msg)
        if self.start_s % self.decision_s:
            msg = (
                f"start_s must be a multiple of decision_s={self.decision_s}, "
                f"got {self.start_s}"
            )
            raise ConfigError(msg)

    def ticks(self, seconds: int) -> int:
        """Return a time in ticks."""
        return seconds // self.tick_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What came of a policy: simulated, not measured.

    Attributes:
        policy: Its name.
        rows_arrived: Rows sent in all.
        rows_processed: Rows finished.
        backlog_rows: Rows left at the end of each tick, shape (ticks,).
        workers: Workers that worked in each tick, shape (ticks,).
        worker_s: Paid worker-seconds: starting, working and draining.
        lag_s_p99: 99 % of the rows waited no longer, in seconds, to one tick; rows
            left at the end count with what they had waited until then.
        violation_s: Time in which a row waited longer than the objective, in seconds.
        rescales_count: Decisions that changed the number of workers.
        extrapolated: Whether it used numbers of workers that nobody measured.
    """

    policy: str
    rows_arrived: int
    rows_processed: int
    backlog_rows: Counts
    workers: Counts
    worker_s: int
    lag_s_p99: float
    violation_s: int
    rescales_count: int
    extrapolated: bool


def arrivals_of(load: PhasedLoad, tick_s: int = 1) -> Counts:
    """Return the rows that arrive in each tick: the load's integral, in whole rows."""
    ticks = round(load.duration_s / tick_s)
    rates = [load.rows_per_s((tick + 0.5) * tick_s) for tick in range(ticks)]
    total = np.floor(np.cumsum(np.array(rates) * tick_s) + 1e-6).astype(np.int64)
    return np.diff(total, prepend=0)


def simulate(
    arrivals: Counts, capacity: CapacityCurve, policy: Policy, cluster: Cluster
) -> Simulation:
    """Run one policy against a load.

    Args:
        arrivals: Rows that arrive in each tick, shape (ticks,).
        capacity: What the workers get through.
        policy: Decides at the start and every `decision_s`.
        cluster: Limits and delays.
    """
    policy.reset()
    fleet = _Fleet(cluster)
    backlog, worker_s, rescales = 0, 0, 0
    busy, offered = 0, 0
    workers = np.zeros(len(arrivals), dtype=np.int64)
    backlogs = np.zeros(len(arrivals), dtype=np.int64)
    processed = np.zeros(len(arrivals), dtype=np.int64)
    for tick, arrived in enumerate(arrivals.tolist()):
        fleet.begin(tick)
        if tick % cluster.ticks(cluster.decision_s) == 0:
            power = capacity.rows_per_s(fleet.working)
            wanted = policy.decide(
                Observation(
                    at_s=tick * cluster.tick_s,
                    workers=fleet.wanted,
                    utilization=busy / offered if offered else 0.0,
                    backlog_rows=backlog,
                    backlog_s=backlog / power if power else 0.0,
                )
            )
            rescales += fleet.resize(wanted, tick)
            busy = offered = 0
        power = rows_per_tick(capacity, fleet.working, cluster.tick_s)
        done = min(backlog + arrived, power)
        backlog += arrived - done
        busy, offered = busy + done, offered + power
        worker_s += fleet.paid(tick) * cluster.tick_s
        workers[tick], backlogs[tick], processed[tick] = fleet.working, backlog, done
    late = backlogs > backlog_allowed(arrivals, cluster)
    return Simulation(
        policy=policy.name,
        rows_arrived=int(arrivals.sum()),
        rows_processed=int(processed.sum()),
        backlog_rows=backlogs,
        workers=workers,
        worker_s=worker_s,
        lag_s_p99=_lag_ticks(arrivals, processed, 0.99) * cluster.tick_s,
        violation_s=int(late.sum()) * cluster.tick_s,
        rescales_count=rescales,
        extrapolated=any(capacity.is_extrapolated(n) for n in set(workers.tolist())),
    )


def rows_per_tick(capacity: CapacityCurve, workers: int, tick_s: int) -> int:
    """Return the whole rows that a number of workers gets through in one tick."""
    return int(capacity.rows_per_s(workers) * tick_s)


def backlog_allowed(arrivals: Counts, cluster: Cluster) -> Counts:
    """Return the largest backlog at each tick in which no row is late.

    Rows are processed in the order they came; so none has waited longer than the
    objective just when all that are left arrived within it.
    """
    total = np.concatenate(([0], np.cumsum(arrivals)))
    ticks = np.arange(1, len(arrivals) + 1)
    since = np.maximum(ticks - cluster.ticks(cluster.lag_max_s), 0)
    allowed: Counts = total[ticks] - total[since]
    return allowed


class _Fleet:
    """The workers: those that work, those that start, those that drain."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.working = cluster.workers_min
        # Tick at which they begin to work, or at which they are no longer paid.
        self._starting: list[int] = []
        self._draining: list[int] = []

    @property
    def wanted(self) -> int:
        """Workers there are or will be."""
        return self.working + len(self._starting)

    def begin(self, tick: int) -> None:
        """Let those work whose start is over."""
        self.working += sum(ready <= tick for ready in self._starting)
        self._starting = [ready for ready in self._starting if ready > tick]

    def resize(self, wanted: int, tick: int) -> bool:
        """Start or let go workers, within the limits; return whether that was any."""
        cluster = self._cluster
        wanted = min(max(wanted, cluster.workers_min), cluster.workers_max)
        change = wanted - self.wanted
        if change > 0:
            ready = tick + cluster.ticks(cluster.start_s)
            self._starting += [ready] * change
            self.begin(tick)
        # Those that have not begun yet have nothing to finish: they go first.
        for _ in range(-change):
            if self._starting:
                self._starting.pop()
            else:
                self.working -= 1
                self._draining.append(tick + cluster.ticks(cluster.drain_s))
        return change != 0

    def paid(self, tick: int) -> int:
        """Workers to be paid in this tick."""
        self._draining = [end for end in self._draining if end > tick]
        return self.wanted + len(self._draining)


def _lag_ticks(arrivals: Counts, processed: Counts, share: float) -> int:
    """Return the lag that a share of the rows does not exceed, in ticks.

    Row n arrived in the tick in which the running total of arrivals passes n, and
    was finished in the one in which that of the processed rows does. Between two
    steps of either total, all rows have the same two ticks.
    """
    came, went = np.cumsum(arrivals), np.cumsum(processed)
    if not came[-1]:
        return 0
    steps = np.unique(np.concatenate(([0], came, went)))
    first, rows = steps[:-1], np.diff(steps)
    # A row that is left at the end is taken as finished just after it.
    lag = np.searchsorted(went, first, "right") - np.searchsorted(came, first, "right")
    order = np.argsort(lag)
    reached = np.cumsum(rows[order])
    return int(lag[order][np.searchsorted(reached, share * came[-1])])
