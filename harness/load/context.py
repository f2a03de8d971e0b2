"""What an operation may use while it runs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class OperationContext:
    """One worker's view of the run.

    Attributes:
        worker: Index of the worker, from 0, over all processes.
        state: What *setup* returned for this worker.
        shared: What *process_setup* returned in this worker's process.
        random: Seeded from the run's seed and the worker index.
    """

    __slots__ = ("_acquired_ns", "_now", "random", "shared", "state", "worker")

    def __init__(
        self,
        *,
        worker: int,
        state: Any,
        shared: Any,
        seed: int,
        now: Callable[[], int],
    ) -> None:
        self.worker = worker
        self.state = state
        self.shared = shared
        # Not for secrets: reproducible keys are the point.
        self.random = random.Random(f"{seed}/{worker}")  # noqa: S311
        self._now = now
        self._acquired_ns = 0

    def acquired(self) -> None:
        """Mark the moment the operation got its connection."""
        self._acquired_ns = self._now()
