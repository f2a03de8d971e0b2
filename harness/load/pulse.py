"""How long the generator's own code has to wait before it runs.

Somebody in each generator process wants to run every two milliseconds and does nothing
else. How late it comes is how late any worker comes that has its answer. Among workers
with threads of their own it is a thread too, and waits for the interpreter lock, which
the threads hand around, or for a processor. Among workers that share one thread it is
one of them, and waits until the others have had their turn: a second thread would tell
how reluctantly theirs gives the lock away, which delays no worker.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.clock import NS_PER_MS, SYSTEM_CLOCK, sharpen_timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
        one_thread: Whether it ran among workers that share one thread; the rest of
            its lateness is then the turns of the others.
    """

    beats: int
    late_ns_p99: float
    processor_share: float | None = None
    one_thread: bool = False


class PulseTaker:
    """Takes the pulse of this process from construction until `finish`.

    Args:
        one_thread: The workers share one thread, which runs `beat` or `beat_async`;
            else a thread of its own does.
    """

    def __init__(self, *, one_thread: bool = False) -> None:
        self._one_thread = one_thread
        self._start_ns = SYSTEM_CLOCK.monotonic_ns()
        self._late_ns = array("q")
        self._waited_ns: int | None = None
        self._over = False
        self._thread: threading.Thread | None = None
        if not one_thread:
            self._thread = threading.Thread(
                target=self._main, name="load-pulse", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Let the next beat be the last one."""
        self._over = True

    def finish(self, measure_from_ns: int, ended_ns: int) -> Pulse:
        """Stop, and return what was seen from *measure_from_ns* to *ended_ns*.

        What comes after the last operation is the tear-down of the workers, which
        may keep their one thread for as long as it likes: it delays nobody.
        """
        self.stop()
        if self._thread is not None:
            self._thread.join()
        # A copy: a worker that never returned may leave its thread beating.
        late_ns = np.array(self._late_ns, dtype=np.int64)
        total_ns = int(late_ns.sum())
        share = None
        if self._waited_ns is not None and total_ns:
            share = min(1.0, self._waited_ns / total_ns)
        before = max(0, -((self._start_ns - measure_from_ns) // INTERVAL_NS))
        # The beat at index i was due i + 1 intervals after the start.
        until = max(before, (ended_ns - self._start_ns) // INTERVAL_NS)
        measured = late_ns[before:until]
        return Pulse(
            beats=len(measured),
            late_ns_p99=float(np.quantile(measured, 0.99)) if len(measured) else 0.0,
            processor_share=share,
            one_thread=self._one_thread,
        )

    def beat(self, sleep_until_ns: Callable[[int], object]) -> None:
        """Take the pulse in the calling thread until `stop`.

        Args:
            sleep_until_ns: Waits for a time as the workers do.
        """
        now, append = SYSTEM_CLOCK.monotonic_ns, self._late_ns.append
        due_ns = self._start_ns
        waited_from_ns = _waited_for_processor_ns()
        while not self._over:
            # From the schedule, not from the last beat: one long wait is the lateness
            # of every beat that was due in it.
            due_ns += INTERVAL_NS
            sleep_until_ns(due_ns)
            append(now() - due_ns)
        self._keep_waited(waited_from_ns)

    async def beat_async(
        self, sleep_until_ns: Callable[[int], Awaitable[object]]
    ) -> None:
        """Take the pulse in the calling event loop until `stop`; see `beat`."""
        now, append = SYSTEM_CLOCK.monotonic_ns, self._late_ns.append
        due_ns = self._start_ns
        waited_from_ns = _waited_for_processor_ns()
        while not self._over:
            due_ns += INTERVAL_NS
            await sleep_until_ns(due_ns)
            append(now() - due_ns)
        self._keep_waited(waited_from_ns)

    def _main(self) -> None:
        sharpen_timers()
        self.beat(SYSTEM_CLOCK.sleep_until_ns)

    def _keep_waited(self, waited_from_ns: int | None) -> None:
        if waited_from_ns is not None:
            self._waited_ns = (_waited_for_processor_ns() or 0) - waited_from_ns


def _waited_for_processor_ns() -> int | None:
    """Return how long the calling thread was runnable and did not run (Linux)."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
