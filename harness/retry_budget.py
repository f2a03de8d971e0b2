"""A retry budget: what keeps a service in trouble from being asked even more."""

from __future__ import annotations

import threading

from harness.errors import ConfigError

BUDGET_RATIO = 0.1
BUDGET_BURST = 10.0


class RetryBudget:
    """Retries as a share of what is asked: 10 % of it, and ten to begin with.

    Without one, every caller's retries add up exactly when the service can do
    least: three retries each are four times the load. With one, the load of a
    brown-out stays within 1.1 times the usual.

    Args:
        ratio: Retries earned by each operation that is none, 0 to 1.
        burst: Most retries that can be saved up; also what it starts with.
    """

    def __init__(
        self, *, ratio: float = BUDGET_RATIO, burst: float = BUDGET_BURST
    ) -> None:
        if not 0 <= ratio <= 1 or not burst >= 0:
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
        """Note an operation that is no retry."""
        with self._lock:
            self._left = min(self._burst, self._left + self._ratio)

    def spend(self) -> bool:
        """Take one retry; False if there is none left."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True
