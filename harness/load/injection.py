"""A slowdown put in on purpose: what a gate is tried with."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

# A sleep ends some 50 us late, so shorter additions are spent in a loop.
_SLEEP_NS_MIN = 1_000_000

# The share set for this process; None where nothing is slowed.
_share: float | None = None


def inject_slowdown(share: float | None) -> None:
    """Make every operation of later runs take *share* longer; None takes that back.

    0 is not the same as None: the operation is timed and nothing is added, so the
    cost of the injection is in both sides of a trial.
    """
    global _share  # noqa: PLW0603  # one per process, set before any run
    _share = share


def injected_slowdown() -> float | None:
    """Return the share that was set."""
    return _share


class Slowed:
    """A function that takes a share longer than the one inside.

    Args:
        function: What is called.
        share: 0.05 makes it 5 % longer.
    """

    def __init__(self, function: Callable[..., Any], share: float) -> None:
        self._function = function
        self._share = share

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, then wait for the share of the time it took."""
        now = SYSTEM_CLOCK.monotonic_ns
        began_ns = now()
        result = self._function(*args, **kwargs)
        ended_ns = now()
        until_ns = ended_ns + int((ended_ns - began_ns) * self._share)
        if until_ns - ended_ns >= _SLEEP_NS_MIN:
            SYSTEM_CLOCK.sleep((until_ns - ended_ns) / NS_PER_S)
        while now() < until_ns:
            pass
        return result


class SlowedAsync(Slowed):
    """The same of a coroutine function."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Await it, then wait for the share of the time it took."""
        now = SYSTEM_CLOCK.monotonic_ns
        began_ns = now()
        result = await self._function(*args, **kwargs)
        await asyncio.sleep((now() - began_ns) * self._share / NS_PER_S)
        return result


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as it was set to be: itself where nothing is injected."""
    if _share is None:
        return function
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # its kind, not whether
    )
    return (SlowedAsync if is_async else Slowed)(function, _share)
