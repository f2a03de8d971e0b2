"""How a run fares, judged by what it tells anyway: nothing is asked for it.

A check of its own would take a connection of those that are measured, and would keep a
database awake that is to suspend itself.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.reports.live import LiveComponent, LiveHealth, Status

if TYPE_CHECKING:
    from datetime import datetime

    from harness.reports.live import LiveData, LivePool

WINDOW_S = 10
# Of the operations of the window; below it, failures are a warning.
FAILED_SHARE_MAX = 0.1
_ORDER: tuple[Status, ...] = ("healthy", "warning", "unhealthy", "critical")


class RunHealth:
    """Judges by the last seconds: what went wrong before them is over.

    Args:
        clock: Dates reports, and ends the window.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._seen: dict[str, int] | None = None
        self._sums: Counter[str] = Counter()
        self._history: deque[tuple[int, Counter[str]]] = deque()

    def judge(self, data: LiveData) -> LiveHealth | None:
        """Return how what is seen fares; None where there is nothing to judge by."""
        at = self._clock.now()
        grown = self._growth(_totals(data))
        found = [
            *_operations(data, grown, at),
            *(_pool(pool, grown, at, data) for pool in data.pools),
            *_agents(data, grown, at),
        ]
        if not found:
            return None
        worst = max((part.status for part in found), key=_ORDER.index)
        components = {part.component: part for part in found}
        return LiveHealth(
            status=worst, overall_status=worst, timestamp=at, components=components
        )

    def _growth(self, totals: dict[str, int]) -> Counter[str]:
        """Return by how much each count has grown in the window."""
        now_ns, seen = self._clock.monotonic_ns(), self._seen
        for name, value in totals.items():
            # What is there when the watch begins may be long past. A count that
            # comes later, or begins again, has grown by what it is.
            old = value if seen is None else seen.get(name, 0)
            self._sums[name] += value - old if value >= old else value
        self._seen = totals
        history = self._history
        history.append((now_ns, self._sums.copy()))
        while len(history) > 1 and now_ns - history[1][0] >= WINDOW_S * NS_PER_S:
            history.popleft()
        grown = self._sums.copy()
        grown.subtract(history[0][1])
        return grown


def _totals(data: LiveData) -> dict[str, int]:
    totals = {"failed": data.errors.total_errors}
    if data.load is not None:
        totals["completed"] = data.load.completed_total
    for pool in data.pools:
        totals[f"{pool.name} connects"] = pool.connection_errors_total
        totals[f"{pool.name} timeouts"] = pool.checkout_timeouts_total
    for agent in data.agents:
        totals[f"{agent.name} asked"] = agent.requests_total
        totals[f"{agent.name} failed"] = agent.errors_total
    return totals


def _operations(
    data: LiveData, grown: Counter[str], at: datetime
) -> list[LiveComponent]:
    failed, completed = grown["failed"], grown["completed"]
    if not failed and data.load is None:
        return []
    times = data.load.response_time if data.load else None
    return [
        _component(
            "operations",
            *_verdict(completed, failed, what="operations"),
            at=at,
            response_time_ms=times.p50_ms if times else None,
            completed=completed,
            failed=failed,
        )
    ]


def _agents(data: LiveData, grown: Counter[str], at: datetime) -> list[LiveComponent]:
    found = []
    for agent in data.agents:
        failed = grown[f"{agent.name} failed"]
        answered = max(0, grown[f"{agent.name} asked"] - failed)
        found.append(
            _component(
                f"agent {agent.name}",
                *_verdict(answered, failed, what="questions"),
                at=at,
                response_time_ms=agent.end_to_end.p50_ms if agent.end_to_end else None,
                answered=answered,
                failed=failed,
            )
        )
    return found


def _verdict(done: int, failed: int, *, what: str) -> tuple[Status, str]:
    span = f"of the last {WINDOW_S} s"
    if not failed:
        return "healthy", f"{done:,} {what} {span}, none failed"
    said = f"{failed:,} of {done + failed:,} {what} {span} failed"
    if not done:
        return "critical", said
    return (
        "unhealthy" if failed > FAILED_SHARE_MAX * (done + failed) else "warning"
    ), said


def _pool(
    pool: LivePool, grown: Counter[str], at: datetime, data: LiveData
) -> LiveComponent:
    connects = grown[f"{pool.name} connects"]
    timeouts = grown[f"{pool.name} timeouts"]
    is_alone = len(data.pools) == 1
    status, said = _pool_verdict(pool, connects, timeouts)
    return _component(
        "connection_pool" if is_alone else f"connection_pool {pool.name}",
        status,
        said,
        at=at,
        response_time_ms=None,
        in_use=pool.in_use,
        size=pool.size,
        size_max=pool.size_max,
        failed_connects=connects,
        checkout_timeouts=timeouts,
    )


def _pool_verdict(pool: LivePool, connects: int, timeouts: int) -> tuple[Status, str]:
    span = f"in the last {WINDOW_S} s"
    if connects:
        tried = f"{connects:,} connects failed {span}"
        if not pool.size:
            return "critical", f"no connection is open: {tried}"
        status: Status = "unhealthy" if pool.size < pool.size_kept else "warning"
        return status, f"{tried}; {pool.size} of {pool.size_max} are open"
    if timeouts:
        return "warning", f"{timeouts:,} callers got no connection in time {span}"
    if pool.in_use >= pool.size_max and pool.waiting:
        callers = "caller waits" if pool.waiting == 1 else "callers wait"
        return "warning", f"every connection is in use, and {pool.waiting:,} {callers}"
    return "healthy", f"{pool.in_use} of {pool.size_max} connections in use"


def _component(
    name: str,
    status: Status,
    message: str,
    *,
    at: datetime,
    response_time_ms: float | None,
    **details: Any,
) -> LiveComponent:
    return LiveComponent(
        component=name,
        status=status,
        message=message,
        response_time_ms=response_time_ms,
        timestamp=at,
        details=details,
    )
