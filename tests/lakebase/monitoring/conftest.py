"""A pool whose figures a test sets: what is promised here is what is made of them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.load.histogram import LogLinearHistogram
from harness.postgres.pool import PoolConfig, PoolMetrics, PoolStats


def histogram_of(*values_ms):
    return LogLinearHistogram.of(
        np.array([round(value * 1e6) for value in values_ms], dtype=np.int64)
    )


class FiguresPool:
    """Has figures and no connections."""

    name = "figures"

    def __init__(self, *, size_min=4, size_max=10):
        self.config = PoolConfig(size_min=size_min, size_max=size_max)
        self._stats = PoolStats(
            size=size_min, size_max=size_max, in_use=0, idle=size_min, waiting=0
        )
        self._metrics = PoolMetrics(
            **{
                field.name: 0 if field.name.endswith("_count") else histogram_of()
                for field in fields(PoolMetrics)
            }
        )

    def stats(self):
        return self._stats

    def metrics(self):
        return self._metrics

    def now(self, **stats):
        self._stats = replace(self._stats, **stats)

    def count(self, *, checkout_waits_ms=(), **counts):
        """Let so much happen."""
        old = self._metrics
        waits = LogLinearHistogram.merged(
            [old.checkout_wait, histogram_of(*checkout_waits_ms)]
        )
        new = {name: getattr(old, name) + count for name, count in counts.items()}
        self._metrics = replace(
            old,
            checkout_wait=waits,
            **{
                "checkouts_count": old.checkouts_count + len(checkout_waits_ms),
                **new,
            },
        )


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def figures():
    return FiguresPool()
