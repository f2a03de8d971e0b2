"""A crew of coroutines: one process's share of a run whose operation is async."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import threading
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, sharpen_timers
from harness.load.async_sleep import Sleeper
from harness.load.crew import Crew, ShareResult
from harness.load.samples import NO_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.load.context import OperationContext
    from harness.load.crew import Worker
    from harness.load.samples import SampleRecorder


class AsyncCrew(Crew):
    """Runs each worker as a task of one event loop.

    As many operations are in flight at once as there are workers. Set-up and
    tear-down may be coroutine functions too; they run in the same loop, so that what
    they open belongs to it.
    """

    one_thread = True
    sleeper: Sleeper

    def run(self, agree_on_start: Callable[[], int]) -> ShareResult:
        """Run this share from set-up to tear-down; see `Crew.run`."""
        return asyncio.run(self._main(agree_on_start))

    async def _main(self, agree_on_start: Callable[[], int]) -> ShareResult:
        plan, clock = self.plan, self.clock
        sharpen_timers()
        self.sleeper = Sleeper(clock)
        if plan.process_setup is not None:
            self._shared = await _awaited(plan.process_setup())
        try:
            contexts = [await self._prepared(worker) for worker in self.workers]
            # The parent may make us wait: not in the loop, which others may use.
            start_ns = await asyncio.to_thread(agree_on_start)
            self.loop.begin(start_ns)
            cpu_from_ns, wall_from_ns = clock.process_cpu_ns(), clock.monotonic_ns()
            self.take_pulse()
            tasks = [
                asyncio.create_task(self.loop.drive_async(self, worker, context))
                for worker, context in zip(self.workers, contexts, strict=True)
            ]
            pulse = asyncio.create_task(self._beat())
            with self._interruptible():
                await self._gathered(tasks)
            await self._end_of(pulse)
            whole_ns = max(1, clock.monotonic_ns() - wall_from_ns)
            cpu_ns = clock.process_cpu_ns() - cpu_from_ns
            for context in contexts:
                if plan.teardown is not None:
                    await _awaited(plan.teardown(context.state))
            return self._result(cpu_ns=cpu_ns, whole_ns=whole_ns)
        finally:
            self.sleeper.close()
            if plan.process_teardown is not None:
                await _awaited(plan.process_teardown(self._shared))

    async def once_async(
        self,
        worker: Worker,
        recorder: SampleRecorder,
        context: OperationContext,
        intended_ns: int | None,
    ) -> int:
        """Run and record one operation; see `Crew.once`."""
        now = self._now
        context._acquired_ns = 0  # noqa: SLF001  # the engine's side of the context
        code = NO_ERROR
        worker.in_operation = True
        started_ns = now()
        try:
            await self._operation(context)
        except Exception as error:  # noqa: BLE001  # recorded: a failure is a result
            finished_ns = now()
            code = self.failed(recorder, error)
        else:
            finished_ns = now()
        worker.in_operation = False
        recorder.append(
            started_ns if intended_ns is None else intended_ns,
            started_ns,
            context._acquired_ns or started_ns,  # noqa: SLF001  # see above
            finished_ns,
            code,
        )
        return finished_ns

    async def _beat(self) -> None:
        if self._pulse_taker is not None:
            await self._pulse_taker.beat_async(self.sleeper.until_ns)

    async def _end_of(self, pulse: asyncio.Task[None]) -> None:
        if self._pulse_taker is not None:
            self._pulse_taker.stop()
        await pulse

    async def _prepared(self, worker: Worker) -> OperationContext:
        """Set one worker up and warm it by count."""
        plan = self.plan
        state = None
        if plan.setup is not None:
            state = await _awaited(plan.setup(worker.index))
        context = self._context(worker, state)
        for _ in range(plan.warmup_count):
            await self.once_async(worker, worker.warmup, context, None)
        return context

    async def _gathered(self, tasks: list[asyncio.Task[None]]) -> None:
        """Wait for the tasks; cancel those that overstay."""
        grace_s = self.plan.grace_s
        pending = set(tasks)
        stopped_ns: int | None = None
        while pending:
            done, pending = await asyncio.wait(pending, timeout=0.1)
            for task in done:
                task.result()
            now_ns = self.clock.monotonic_ns()
            if self.stopping and stopped_ns is None:
                stopped_ns = now_ns
            ends = [t for t in (self.loop.end_ns, stopped_ns) if t is not None]
            if ends and now_ns > min(ends) + grace_s * NS_PER_S:
                self.stopping = True
                for task in pending:
                    task.cancel()
                return

    def _interruptible(self) -> contextlib.AbstractContextManager[Any]:
        """Make Ctrl-C end the run cleanly, where signals are ours to handle."""
        stack = contextlib.ExitStack()
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            with contextlib.suppress(NotImplementedError, ValueError):
                loop.add_signal_handler(signal.SIGINT, self.interrupt)
                stack.callback(loop.remove_signal_handler, signal.SIGINT)
        return stack


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
