"""The thread that looks after a pool, and ends with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    import weakref

    from harness.postgres.pool import PoolConfig
    from harness.postgres.slot_pool import SlotPool

INTERVAL_MIN_S = 0.05
INTERVAL_MAX_S = 30.0

logger = logging.getLogger(__name__)


def upkeep_interval_s(config: PoolConfig) -> float:
    """Return how often to look: a few times within the shortest time that counts."""
    times = [config.idle_max_s / 4, config.lifetime_max_s / 4, INTERVAL_MAX_S]
    if config.leak_after_s:
        times.append(config.leak_after_s / 2)
    return max(INTERVAL_MIN_S, min(times))


def keep_up(
    pool: weakref.ref[SlotPool], closing: threading.Event, interval_s: float
) -> None:
    """Maintain a pool until it is closed, or dropped without having been closed."""
    while not closing.wait(interval_s):
        found = pool()
        if found is None:
            return
        try:
            found.maintain()
        except Exception:
            # The next round may go well; without a thread nothing ever would.
            logger.exception(
                "pool %r: upkeep failed",
                found.name,
                extra={"operation": "pool.upkeep"},
            )
        del found
