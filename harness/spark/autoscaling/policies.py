"""Rules by which a cluster grows and shrinks: what they see, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from harness.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What an autoscaler sees when it decides.

    Attributes:
        at_s: Time since the start, in seconds.
        workers: Workers that work or are starting.
        utilization: Busy share of the working workers since the last decision, 0-1.
        backlog_rows: Rows that arrived and are not processed.
        backlog_s: How long the working workers would need for them, in seconds.
    """

    at_s: float
    workers: int
    utilization: float
    backlog_rows: int
    backlog_s: float


class Policy(Protocol):
    """Decides how many workers there should be."""

    @property
    def name(self) -> str:
        """What it is called in a table."""
        ...

    def decide(self, seen: Observation) -> int:
        """Return the wanted number of workers; the cluster keeps its limits."""
        ...

    def reset(self) -> None:
        """Forget what was seen: a run begins."""
        ...


@dataclass(frozen=True, slots=True)
class StaticPolicy:
    """The same number of workers all the time."""

    workers: int

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"static {self.workers}"

    def decide(self, seen: Observation) -> int:
        """Return the number it was given."""
        del seen
        return self.workers

    def reset(self) -> None:
        """Forget nothing: nothing is remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UtilizationQueuePolicy:
    """Grows on busy workers or on queued work, shrinks when both are low.

    In the manner of Databricks' enhanced autoscaling, which watches the share of
    task slots in use and the number of queued tasks; its exact rule is not public.

    Attributes:
        utilization_target: Share of busy workers aimed at, 0-1.
        backlog_max_s: Queued work that makes it grow, in seconds of all workers.
        shrink_below: Utilization under which it gives workers back, 0-1.
    """

    utilization_target: float = 0.8
    backlog_max_s: float = 5.0
    shrink_below: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.shrink_below < self.utilization_target <= 1:
            msg = (
                "0 < shrink_below < utilization_target <= 1 must hold, got "
                f"shrink_below={self.shrink_below}, "
                f"utilization_target={self.utilization_target}"
            )
            raise ConfigError(msg)
        if self.backlog_max_s <= 0:
            msg = f"backlog_max_s must be > 0, got {self.backlog_max_s}"
            raise ConfigError(msg)

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return "utilization + queue"

    def decide(self, seen: Observation) -> int:
        """Return the workers that would bring utilization to its target."""
        if seen.backlog_s > self.backlog_max_s:
            # All are busy, however much is queued: the queue says how much is missing.
            missing = min(1.0, seen.backlog_s / self.backlog_max_s - 1)
            return seen.workers + max(1, round(seen.workers * missing))
        if seen.utilization > self.utilization_target:
            return seen.workers + 1
        if seen.utilization < self.shrink_below:
            wanted = round(seen.workers * seen.utilization / self.utilization_target)
            return min(seen.workers - 1, max(wanted, 1))
        return seen.workers

    def reset(self) -> None:
        """Forget nothing: nothing is remembered."""


@dataclass(kw_only=True, slots=True)
class IdlePolicy:
    """Grows while work is queued, shrinks when workers have been idle for long.

    In the manner of Spark's dynamic allocation: twice as many more at each decision
    while the queue lasts, one fewer after a time of low use.

    Attributes:
        idle_below: Utilization that counts as idle, 0-1.
        idle_s: How long it must last before a worker goes, in seconds.
    """

    idle_below: float = 0.5
    idle_s: float = 60.0
    _step: int = field(default=1, init=False)
    _idle_since_s: float | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return "idle-based"

    def decide(self, seen: Observation) -> int:
        """Return more while something is queued, one fewer after idling."""
        if seen.backlog_rows > 0:
            self._idle_since_s = None
            wanted = seen.workers + self._step
            self._step *= 2
            return wanted
        self._step = 1
        if seen.utilization >= self.idle_below:
            self._idle_since_s = None
            return seen.workers
        if self._idle_since_s is None:
            self._idle_since_s = seen.at_s
        if seen.at_s - self._idle_since_s < self.idle_s:
            return seen.workers
        self._idle_since_s = seen.at_s
        return seen.workers - 1

    def reset(self) -> None:
        """Forget the queue and the idling of an earlier run."""
        self._step = 1
        self._idle_since_s = None


@dataclass(kw_only=True, slots=True)
class PlannedPolicy:
    """Follows a plan made beforehand, one number for each decision.

    Attributes:
        plan: Workers wanted at each decision; the last number holds on.
        name: What it is called in a table.
    """

    plan: tuple[int, ...]
    name: str = "planned"
    _next: int = field(default=0, init=False)

    def decide(self, seen: Observation) -> int:
        """Return the next number of the plan."""
        del seen
        wanted = self.plan[min(self._next, len(self.plan) - 1)]
        self._next += 1
        return wanted

    def reset(self) -> None:
        """Begin the plan again."""
        self._next = 0
