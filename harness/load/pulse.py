"""How long the generator's own code has to wait before it runs.

A thread of each generator process wants to run every two milliseconds and does nothing
else. How late it comes is how late any worker comes that has its answer: it waits for
the interpreter lock, which the other threads hand around, or for a processor.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.clock import NS_PER_MS, SYSTEM_CLOCK, sharpen_timers

INTERVAL_NS = 2 * NS_PER_MS
_SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """What one process's pulse has shown.

    Attributes:
        beats: How often the thread wanted to run while the run was measured.
        late_ns_p99: How late it ran, in nanoseconds.
        processor_share: Share of its lateness spent runnable without a processor, 0
            to 1; the rest is the interpreter lock. None where the system does not
            tell.
    """

    beats: int
    late_ns_p99: float
    processor_share: float | None = None


class PulseTaker:
    """Takes the pulse of this process from construction until `finish`."""

    def __init__(self) -> None:
        self._start_ns = SYSTEM_CLOCK.monotonic_ns()
        self._late_ns = array("q")
        self._waited_ns: int | None = None
        self._over = False
        self._thread = threading.Thread(
            target=self._beat, name="load-pulse", daemon=True
        )
        self._thread.start()

    def finish(self, measure_from_ns: int) -> Pulse:
        """Stop, and return what was seen from *measure_from_ns* on."""
        self._over = True
        self._thread.join()
        late_ns = np.frombuffer(self._late_ns, dtype=np.int64)
        total_ns = int(late_ns.sum())
        share = None
        if self._waited_ns is not None and total_ns:
            share = min(1.0, self._waited_ns / total_ns)
        before = max(0, -((self._start_ns - measure_from_ns) // INTERVAL_NS))
        measured = late_ns[before:]
        return Pulse(
            beats=len(measured),
            late_ns_p99=float(np.quantile(measured, 0.99)) if len(measured) else 0.0,
            processor_share=share,
        )

    def _beat(self) -> None:
        sharpen_timers()
        now, until = SYSTEM_CLOCK.monotonic_ns, SYSTEM_CLOCK.sleep_until_ns
        append, due_ns = self._late_ns.append, self._start_ns
        waited_from_ns = _waited_for_processor_ns()
        while not self._over:
            # From the schedule, not from the last beat: one long wait is the lateness
            # of every beat that was due in it.
            due_ns += INTERVAL_NS
            until(due_ns)
            append(now() - due_ns)
        if waited_from_ns is not None:
            self._waited_ns = (_waited_for_processor_ns() or 0) - waited_from_ns


def _waited_for_processor_ns() -> int | None:
    """Return how long the calling thread was runnable and did not run (Linux)."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
