"""How fast the agents asked by this process answer, for whoever watches it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple

from harness.agents.answered import ANSWERED
from harness.agents.errors import AgentCallError
from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.load.underway import FAILURES, Failures, in_flight
from harness.reports.live import LiveAgent, LiveTimes

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_NS = 10 * NS_PER_S
UNANSWERED = "not answered"
_QUANTILES = (0.5, 0.95, 0.99)


class Answered(NamedTuple):
    """One answer: who gave it, when it was asked for, began and ended, and of whom."""

    name: str
    sent_ns: int
    first_content_ns: int | None
    done_ns: int
    asked: str = ""


class AnswerWatch:
    """Takes the answers of this process; one at a time, asked by one thread.

    Args:
        clock: That of the clients.
        failures: Where loads note failures; a client itself notes none.
    """

    def __init__(
        self, *, clock: Clock = SYSTEM_CLOCK, failures: Failures = FAILURES
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._failed_before = _failed(failures)
        self._totals: Counter[str] = Counter()
        self._recent: deque[Answered] = deque()
        # An endpoint answers under the name of what it serves.
        self._answered_as: defaultdict[str, set[str]] = defaultdict(set)

    def look(self) -> list[LiveAgent]:
        """Return the agents that have answered since the watch began."""
        from_ns = self._clock.monotonic_ns() - WINDOW_NS
        while ANSWERED:
            answer = Answered(*ANSWERED.popleft())
            # Older ones are of before anybody looked.
            if answer.done_ns >= from_ns:
                self._totals[answer.name] += 1
                self._answered_as[answer.asked].add(answer.name)
                self._recent.append(answer)
        while self._recent and self._recent[0].done_ns < from_ns:
            self._recent.popleft()
        failed: Counter[str] = Counter()
        for asked, count in (_failed(self._failures) - self._failed_before).items():
            failed[self._name_of(asked)] += count
        names = list(self._totals)
        names += [name for name in failed if name not in self._totals]
        return [
            self._agent(name, failed[name], last=name is names[-1]) for name in names
        ]

    def _name_of(self, asked: str | None) -> str:
        """Return under which name the failures of an endpoint are shown."""
        if asked is None:
            # A failure that does not tell whose it was.
            return next(iter(self._totals)) if len(self._totals) == 1 else UNANSWERED
        names = self._answered_as.get(asked, set())
        return next(iter(names)) if len(names) == 1 else asked

    def _agent(self, name: str, errors: int, *, last: bool) -> LiveAgent:
        recent = [answer for answer in self._recent if answer.name == name]
        return LiveAgent(
            name=name,
            requests_total=self._totals[name] + errors,
            errors_total=errors,
            in_flight=in_flight() if last else 0,
            ttft=_times(
                [
                    a.first_content_ns - a.sent_ns
                    for a in recent
                    if a.first_content_ns is not None
                ]
            ),
            end_to_end=_times([a.done_ns - a.sent_ns for a in recent]),
        )


def _failed(failures: Failures) -> Counter[str | None]:
    """Return failed questions by the endpoint that was asked."""
    failed: Counter[str | None] = Counter()
    for kind, count in failures.counts().items():
        if issubclass(kind.type, AgentCallError):
            failed[kind.asked] += count
    return failed


def _times(values_ns: Sequence[int]) -> LiveTimes | None:
    if not values_ns:
        return None
    ordered = sorted(values_ns)
    p50, p95, p99 = (
        ordered[math.ceil(q * len(ordered)) - 1] / NS_PER_MS for q in _QUANTILES
    )
    return LiveTimes(count=len(ordered), p50_ms=p50, p95_ms=p95, p99_ms=p99)
