"""How many rows per second can the source of the streaming scenarios make?

Every rate that a scenario asks for must be well below this: see `HEADROOM`.
"""

from __future__ import annotations

import pytest

from harness.spark.datasets import Impressions, Orders, SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.proof import check_offsets

DATASETS = {
    "impressions": Impressions(),
    "orders": Orders(),
    "sensors": SensorReadings(),
}
ROWS_PER_S_MIN = 1_000_000


@pytest.mark.benchmark(group="stream-source")
@pytest.mark.parametrize("name", DATASETS, ids="dataset={}".format)
def test_rows_made_for_a_sink_that_drops_them(lab, sized, record_stream, name):
    """Closed loop: micro-batches of a million rows, through Spark, into nothing."""
    batches_count = sized(full=8, smoke=4)
    feed = Feed(
        dataset=DATASETS[name],
        seed=661,
        rows_count=batches_count * sized(full=1_000_000, smoke=100_000),
    )
    query = Query(name="source", feeds=(feed,), into="", batches_count=batches_count)

    run = lab.run(query)

    batches = run.batches["source"]
    check_offsets(batches, feed)
    best_per_s = max(batch.rows_count / batch.duration_s for batch in batches)
    # A smoke run's micro-batches are so small that their fixed cost is all there is.
    assert best_per_s >= sized(full=ROWS_PER_S_MIN, smoke=ROWS_PER_S_MIN / 50)
    record_stream(run, details={"rows_per_s_best": round(best_per_s)})
