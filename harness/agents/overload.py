"""What keeps a struggling endpoint from being asked even more: budget and breaker."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.clock import Clock

BUDGET_RATIO = 0.1
BUDGET_BURST = 10.0


class RetryBudget:
    """Retries as a share of requests: 10 % of them, and ten to begin with.

    Without one, every client's retries add up exactly when the endpoint can serve
    least: three retries each are four times the load. With one, the load of a
    brown-out stays within 1.1 times the usual.

    Args:
        ratio: Retries earned by a request, 0 to 1.
        burst: Most retries that can be saved up; also what it starts with.
    """

    def __init__(
        self, *, ratio: float = BUDGET_RATIO, burst: float = BUDGET_BURST
    ) -> None:
        if not 0 <= ratio <= 1 or burst < 0:
            msg = (
                f"ratio must be in 0..1 and burst >= 0, got ratio={ratio}, "
                f"burst={burst}"
            )
            raise ConfigError(msg)
        self._ratio = ratio
        self._burst = burst
        self._left = burst
        self._lock = threading.Lock()

    @property
    def left(self) -> float:
        """Retries left now."""
        return self._left

    def earn(self) -> None:
        """Note a request that is no retry."""
        with self._lock:
            self._left = min(self._burst, self._left + self._ratio)

    def spend(self) -> bool:
        """Take one retry; False if there is none left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


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
