"""Runs side by side that take turns, case by case: only one of them works at a time.

Two whole runs one after the other put minutes between the two measurements of a case,
and a machine drifts in minutes. Taking turns puts seconds between them. The rounds of a
micro case are dealt out in several turns: a neighbour that is busy for a second then
disturbs a part of the rounds of every run, not all rounds of one. Each run is a process
of its own all the same, so it stays one observation.
"""

from __future__ import annotations

import json
import select
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from harness.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

_GO = b"g"
# The same, and the turn may be passed on between two rounds: every run can do that.
_GO_IN_SLICES = b"s"
# How long a turn lasts then, in seconds. Short beside what neighbours do, long beside
# what it costs to pass on the turn.
SLICE_S = 0.05
# How often to look whether a run has ended without a word. Its end of the line closes
# when it does, unless a child of its own has inherited it.
_LOOK_S = 0.2


class TurnTaker:
    """A run's own end of the line: asks before each case, and waits.

    A turn ends when the run asks for the next one, or when its process ends.

    Args:
        descriptor: File descriptor that the run was started with.
    """

    def __init__(self, descriptor: int) -> None:
        self._line = socket.socket(fileno=descriptor)
        self._line.set_inheritable(False)
        self.in_slices = False

    def announce(self, cases: Sequence[str]) -> None:
        """Say which cases are to come, and that a case may take several turns."""
        self._say({"cases": list(cases), "slices": True})

    def take(self, case: str) -> None:
        """Wait until it is this run's turn; `in_slices` says of which kind.

        Raises:
            ReportError: If the experiment has ended.
        """
        self._say({"ask": case})
        try:
            word = self._line.recv(1)
        except OSError:
            word = b""
        if word not in {_GO, _GO_IN_SLICES}:
            msg = "the experiment that this run belongs to has ended"
            raise ReportError(msg)
        self.in_slices = word == _GO_IN_SLICES

    def _say(self, message: dict[str, object]) -> None:
        try:
            self._line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            msg = "the experiment that this run belongs to has ended"
            raise ReportError(msg) from None


@dataclass(eq=False)
class Party:
    """The conductor's end of the line to one run.

    Attributes:
        has_ended: Whether its process has ended.
        asks: The case it waits for; None while it works.
        to_come: Cases it has not begun.
        slices: Whether it can pass on its turn between two rounds.
    """

    has_ended: Callable[[], bool] = lambda: False
    asks: str | None = None
    to_come: set[str] = field(default_factory=set)
    gone: bool = False
    slices: bool = False
    _received: bytes = b""

    def __post_init__(self) -> None:
        self._line, self.far_end = socket.socketpair()

    def __enter__(self) -> Self:
        """Nothing to do: both ends are open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up: a run that still waits for a turn ends."""
        self._line.close()
        self.far_end.close()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._line.fileno()

    def listen(self) -> None:
        """Take in what the run has said."""
        try:
            text = self._line.recv(65_536)
        except OSError:
            text = b""
        if not text:
            self.gone, self.asks = True, None
            return
        *lines, self._received = (self._received + text).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self.to_come.update(message.get("cases", ()))
            self.slices = self.slices or message.get("slices") is True
            self.asks = message.get("ask", self.asks)

    def grant(self, *, in_slices: bool = False) -> None:
        """Let it run the case it waits for, or a slice of it."""
        self.to_come.discard(self.asks or "")
        self.asks = None
        try:
            self._line.sendall(_GO_IN_SLICES if in_slices else _GO)
        except OSError:
            self.gone = True


def conduct(
    parties: Sequence[Party], *, order: Callable[[int, int], Sequence[int]]
) -> None:
    """Give the turns until all runs have ended.

    Args:
        parties: One a run; each must have been started with the far end of its line.
        order: Gives the order of the parties for the round of turns of a number, from
            0, and a number of parties. A case takes one such round, or several.
    """
    case, number = "", -1
    to_serve: list[int] = []
    while True:
        _wait_until_none_works(parties)
        waiting = [i for i, party in enumerate(parties) if not party.gone]
        if not waiting:
            return
        if not any(parties[i].asks == case for i in waiting):
            case, to_serve = _next_case([parties[i] for i in waiting]), []
        asking = {i for i in waiting if parties[i].asks == case}
        if not asking.intersection(to_serve):
            number += 1
            to_serve = list(order(number, len(parties)))
        chosen = next(i for i in to_serve if i in asking)
        to_serve.remove(chosen)
        # One that measures in one go beside one that does not would be compared with
        # other moments of the machine.
        parties[chosen].grant(in_slices=all(party.slices for party in parties))


def _next_case(parties: Sequence[Party]) -> str:
    """Choose what comes next, so that all who have a case run it in one go.

    Where the runs do not have the same cases, one that another run still has to come
    waits for that run.
    """
    asked = Counter(party.asks or "" for party in parties)
    for case in asked:
        if not any(case in p.to_come for p in parties if p.asks != case):
            return case
    return asked.most_common(1)[0][0]


def _wait_until_none_works(parties: Sequence[Party]) -> None:
    while True:
        working = [p for p in parties if not p.gone and p.asks is None]
        if not working:
            return
        heard, _, _ = select.select(working, [], [], _LOOK_S)
        for party in heard:
            party.listen()
        for party in working:
            if party not in heard and party.has_ended():
                party.gone = True
