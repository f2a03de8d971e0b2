"""What keeps a struggling endpoint from being asked even more: budget and breaker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError
from harness.retry_budget import RetryBudget

if TYPE_CHECKING:
    from harness.clock import Clock


class CircuitBreaker:
    """Stops asking after failures in a row, then lets one request try.

    Args:
        failures_max: Failures in a row that open it.
        open_s: How long it then stays open, in seconds, before one request may try.
        clock: Measures that.
    """

    def __init__(
        self,
        *,
        failures_max: int = 20,
        open_s: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if failures_max < 1 or open_s <= 0:
            msg = (
                f"failures_max must be >= 1 and open_s > 0, got {failures_max}, "
                f"{open_s}"
            )
            raise ConfigError(msg)
        self._failures_max = failures_max
        self._open_ns = round(open_s * NS_PER_S)
        self._clock = clock
        self._failures = 0
        self._next_try_ns = 0
        self._lock = threading.Lock()

    def closed_in_s(self) -> float:
        """Return 0 if a request may be sent now, else the seconds to wait.

        An open breaker whose time has come lets exactly one caller through.
        """
        with self._lock:
            if self._failures < self._failures_max:
                return 0.0
            now_ns = self._clock.monotonic_ns()
            if now_ns >= self._next_try_ns:
                self._next_try_ns = now_ns + self._open_ns
                return 0.0
            return (self._next_try_ns - now_ns) / NS_PER_S

    def succeeded(self) -> None:
        """Note an answer: the breaker closes."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Note a failure of the endpoint."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._failures_max:
                self._next_try_ns = self._clock.monotonic_ns() + self._open_ns


_budgets: dict[str, RetryBudget] = {}
_budgets_lock = threading.Lock()


def process_budget(endpoint: str) -> RetryBudget:
    """Return the budget that all clients of *endpoint* in this process share."""
    with _budgets_lock:
        return _budgets.setdefault(endpoint, RetryBudget())
