"""One executor's share of a load run: what runs inside a task of a barrier stage.

No exception leaves a task. Spark would write it, with whatever a driver puts into its
messages, to its logs and its event log; and the other tasks would wait for ever at
their meeting. What went wrong comes back as part of the outcome instead.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK
from harness.errors import LoadError
from harness.load.runner import make_crew
from harness.spark.parcel import packed_outcome, unpacked
from harness.spark.wall_clocks import wall_clock_ns, wall_offset_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.load.crew import ShareResult
    from harness.load.plan import Plan

    # Gives what every place said, once all have said it.
    Gather = Callable[[str], list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one place sends back; without share and error it was called off.

    Attributes:
        machine: Name of the machine it ran on.
        pid: The process it ran in.
        share: Its share of the run.
        error: What a set-up or tear-down raised.
        wall_offset_ns: What to add to the share's times to get wall-clock time.
        wall_moved_ns: How far the wall clock was set during the run.
        late_ns: How long after the agreed start this place was ready for it.
    """

    machine: str
    pid: int
    share: ShareResult | None
    error: BaseException | None
    wall_offset_ns: int
    wall_moved_ns: int
    late_ns: int


class _CalledOffError(Exception):
    """The run does not begin, because another place failed."""


class Meeting:
    """Where the places of a run wait for each other and agree on its start.

    Everyone must come, also who cannot run its share.

    Args:
        gather: Carries what is said.
        lead_ns: How long after the last one came the run starts; Spark may take a
            second to tell everyone.
    """

    def __init__(self, gather: Gather, *, lead_ns: int) -> None:
        self._gather = gather
        self._lead_ns = lead_ns
        self._attended = False
        self.wall_offset_ns = wall_offset_ns(SYSTEM_CLOCK)
        self.late_ns = 0

    def agree_on_start(self) -> int:
        """Wait for the others; return the start of the run by our own clock, in ns.

        Raises:
            _CalledOffError: If another place cannot run its share.
        """
        self._attended = True
        # Set-up took its time: the wall clock may have been corrected since.
        self.wall_offset_ns = wall_offset_ns(SYSTEM_CLOCK)
        own_ns = SYSTEM_CLOCK.monotonic_ns() + self.wall_offset_ns
        ready_ns: list[int | None] = [
            json.loads(said) for said in self._gather(json.dumps(own_ns))
        ]
        if None in ready_ns:
            raise _CalledOffError
        last_ns = max(at_ns for at_ns in ready_ns if at_ns is not None)
        start_ns = last_ns + self._lead_ns - self.wall_offset_ns
        self.late_ns = max(0, SYSTEM_CLOCK.monotonic_ns() - start_ns)
        return start_ns

    def call_off(self) -> None:
        """Tell the others that there will be no run, if they may still be waiting."""
        if not self._attended:
            self._attended = True
            self._gather(json.dumps(None))


def run_place(rank: int, parcel: bytes, meeting: Meeting) -> Outcome:
    """Run the share of one place, whatever happens."""
    share = error = None
    try:
        share = _share(rank, parcel, meeting)
    except _CalledOffError:
        pass
    except BaseException as caught:  # noqa: BLE001  # raised on the driver
        error = caught
        meeting.call_off()
    return Outcome(
        machine=platform.node(),
        pid=os.getpid(),
        share=share,
        error=error,
        wall_offset_ns=meeting.wall_offset_ns,
        wall_moved_ns=wall_offset_ns(SYSTEM_CLOCK) - meeting.wall_offset_ns,
        late_ns=meeting.late_ns,
    )


def _share(rank: int, parcel: bytes, meeting: Meeting) -> ShareResult:
    try:
        plan: Plan = unpacked(parcel)
    except Exception as error:  # noqa: BLE001  # whatever importing user code raises
        msg = (
            f"an executor cannot unpack the operation: {type(error).__name__}: {error}"
            "; install what it imports on the executors, or ship it with --py-files"
        )
        raise LoadError(msg) from None
    crew = make_crew(plan, rank=rank, clock=SYSTEM_CLOCK)
    return crew.run(meeting.agree_on_start)


def read_clock(_rank: int, _rows: Iterable[Any]) -> Iterator[tuple[str, int]]:
    """Read this machine's wall clock; a task of its own short stage."""
    yield platform.node(), wall_clock_ns(SYSTEM_CLOCK)


def run_task(
    parcel: bytes, lead_ns: int, rank: int, _rows: Iterable[Any]
) -> Iterator[bytes]:
    """Run one share; a task of the barrier stage of a run."""
    from pyspark import BarrierTaskContext

    meeting = Meeting(BarrierTaskContext.get().allGather, lead_ns=lead_ns)
    yield packed_outcome(run_place(rank, parcel, meeting))
