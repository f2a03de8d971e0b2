"""Event loops whose timers are exact to the microsecond where the system can."""

from __future__ import annotations

import asyncio
import select
import selectors

if hasattr(selectors, "EpollSelector"):

    class _PreciseSelector(selectors.EpollSelector):
        """Sleeps to the microsecond: epoll alone rounds up to the millisecond."""

        def select(
            self, timeout: float | None = None
        ) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are as exact as the system allows."""
    if hasattr(selectors, "EpollSelector"):
        return asyncio.SelectorEventLoop(_PreciseSelector())
    return asyncio.new_event_loop()
