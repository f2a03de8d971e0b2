"""A crew in one thread: one process's share of a run whose workers are interleaved."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from harness.clock import NS_PER_MS, sharpen_timers
from harness.load.crew import Crew
from harness.load.interleaving import Hub

if TYPE_CHECKING:
    from harness.clock import Clock
    from harness.load.context import OperationContext
    from harness.load.crew import Loop, Worker
    from harness.load.plan import Plan


_PAUSE_MIN_NS, _PAUSE_MAX_NS = NS_PER_MS, 20 * NS_PER_MS
_STUCK_NS = 50 * NS_PER_MS


class InterleavedCrew(Crew):
    """Runs all workers in one thread; while one waits, the others run.

    As many operations are in flight at once as there are workers, provided that
    they wait through `Hub.wait` and the crew's clock. One that blocks in another
    way blocks them all.
    """

    one_thread = True
    hub: Hub

    def __init__(self, plan: Plan, loop: Loop, *, rank: int, clock: Clock) -> None:
        super().__init__(plan, loop, rank=rank, clock=clock)
        self.hub = Hub(clock)
        self._driving: list[Worker] = []  # those with operations to do
        self.clock = self.hub.clock

    @property
    def threads_count(self) -> int:
        """Threads that run the workers: one for all."""
        return 1

    def _threads(self) -> list[threading.Thread]:
        return [threading.Thread(target=self._main, name="load-all", daemon=True)]

    def _main(self) -> None:
        """Do the whole part of all workers, in the one thread."""
        hub, plan = self.hub, self.plan
        contexts: dict[int, OperationContext] = {}
        try:
            sharpen_timers()
            with hub.active():
                try:
                    hub.run([partial(self._prepare, w, contexts) for w in self.workers])
                    self._ready.wait()
                    self._go.wait()
                    driving = [partial(self._drive, w, contexts) for w in self.workers]
                    self._driving = list(self.workers)
                    hub.run([*driving, self._beat])
                finally:
                    if plan.teardown is not None:
                        # Of those that did not come to it themselves.
                        left = [context.state for context in contexts.values()]
                        hub.run([partial(plan.teardown, state) for state in left])
        except threading.BrokenBarrierError:
            return  # the caller was interrupted; that error is the one to show
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            self._fatal.append(error)
            self._abort()

    def _prepare(self, worker: Worker, contexts: dict[int, OperationContext]) -> None:
        """Set one worker up and warm it by count."""
        plan = self.plan
        state = plan.setup(worker.index) if plan.setup is not None else None
        context = contexts[worker.index] = self._context(worker, state)
        for _ in range(plan.warmup_count):
            self.once(worker, worker.warmup, context, None)

    def _drive(self, worker: Worker, contexts: dict[int, OperationContext]) -> None:
        """Do one worker's operations, and tear it down once nobody is delayed by it."""
        self.loop.drive(self, worker, contexts[worker.index])
        self._driving.remove(worker)
        if not self._driving and self._pulse_taker is not None:
            self._pulse_taker.stop()
        self._wait_for_others()
        context = contexts.pop(worker.index)
        if self.plan.teardown is not None:
            self.plan.teardown(context.state)

    def _wait_for_others(self) -> None:
        """Return when all are done, or those left seem to be stuck in an operation.

        Closing a connection takes the one thread for a while, and others may still
        wait for their last arrivals.
        """
        pause_ns, stuck_ns = _PAUSE_MIN_NS, 0
        while self._driving and stuck_ns < _STUCK_NS:
            self.hub.sleep_until_ns(self.clock.monotonic_ns() + pause_ns)
            busy = all(worker.in_operation for worker in self._driving)
            stuck_ns = stuck_ns + pause_ns if busy else 0
            pause_ns = min(2 * pause_ns, _PAUSE_MAX_NS)

    def _beat(self) -> None:
        """Take the pulse, as one more worker that does nothing else."""
        if self._pulse_taker is not None:
            self._pulse_taker.beat(self.hub.sleep_until_ns)
