"""Timing what an application does: a `with` block, and a decorator."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from harness.clock import NS_PER_MS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from harness.lakebase.monitoring.performance import PerformanceMonitor

    P = ParamSpec("P")
    R = TypeVar("R")


class PerformanceTimer:
    """A `with` block that is counted when it ends.

    Args:
        operation: Name of the operation.
        monitor: Where it is counted.
    """

    def __init__(self, operation: str, monitor: PerformanceMonitor) -> None:
        self._operation = operation
        self._monitor = monitor
        self._started_ns = 0

    def __enter__(self) -> Self:
        """Start the clock."""
        self._started_ns = self._monitor.clock.monotonic_ns()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count the operation."""
        elapsed_ns = self._monitor.clock.monotonic_ns() - self._started_ns
        category = None
        if exc is not None:
            category = self._monitor.record_error(self._operation, exc)
        self._monitor.record_operation(
            self._operation, elapsed_ns / NS_PER_MS, exc is None, category
        )


def timed_operation(
    operation: str, monitor: PerformanceMonitor
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that counts every call of a function or coroutine."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with monitor.time_operation(operation):
                    return await function(*args, **kwargs)

            return timed_async  # type: ignore[return-value]  # R is the coroutine

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with monitor.time_operation(operation):
                return function(*args, **kwargs)

        return timed

    return decorate
