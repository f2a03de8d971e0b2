"""What tests of streams share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.spark.progress import MicroBatch


@pytest.fixture
def batches_of():
    """Makes the micro-batches of a stream whose capacity is known; nothing runs.

    It takes what is due, at most what it can, once each *batch_s*.
    """
    begin = datetime(2026, 1, 1, tzinfo=UTC)

    def make(feed, *, capacity_per_s, batch_s=1.0, until_s=20.0):
        found, done = [], 0
        for number in range(int(until_s / batch_s)):
            at_s = number * batch_s
            end = min(feed.due_count(at_s), done + int(capacity_per_s * batch_s))
            found.append(
                MicroBatch(
                    batch_id=number,
                    started_at=begin + timedelta(seconds=at_s),
                    duration_s=batch_s,
                    durations_ms={"addBatch": 1},
                    rows_count=end - done,
                    rows_are_exact=True,
                    rows_dropped_by_watermark=0,
                    watermark=None,
                    ranges=((done, end),),
                )
            )
            done = end
        return found

    return make
