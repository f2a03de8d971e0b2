"""Many small micro-batches make many small files, unless something is done."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from harness.spark.datasets import Changes, Orders
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.merge import OptimizingSink, UpsertSink
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_table, oracle

COLUMNS = (
    "order_id BIGINT, customer_id BIGINT, event_time TIMESTAMP, amount BIGINT, "
    "status STRING"
)
CARES = {
    "none": {},
    "auto_compact": {"delta.autoOptimize.autoCompact": "true"},
    "optimized_write": {"delta.autoOptimize.optimizeWrite": "true"},
}
MIN_FILES = 4


@pytest.mark.benchmark(group="stream-small-files")
@pytest.mark.parametrize("care", CARES, ids="care={}".format)
def test_care_bounds_the_number_of_files_and_keeps_every_row(
    lab, sized, record_stream, care
):
    """Two files a micro-batch are left alone, written as one, or compacted."""
    batches_count = sized(full=12, smoke=6)
    feed = Feed(dataset=Orders(), seed=621, rows_count=batches_count * 500)
    place = lab.place()
    properties = ", ".join(f"'{k}' = '{v}'" for k, v in CARES[care].items())
    place.create(COLUMNS, clauses=f"TBLPROPERTIES ({properties})" if properties else "")
    query = Query(
        name="small",
        feeds=(feed,),
        batches_count=batches_count,
        conf={"spark.databricks.delta.autoCompact.minNumFiles": str(MIN_FILES)},
    )

    run = lab.run(query, place=place)

    proven = check_table(place.path(), feed.table())
    files_count = len(DeltaTable(place.path()).file_uris())
    if care == "none":
        assert files_count == 2 * batches_count
    elif care == "optimized_write":
        assert files_count == batches_count
    else:
        assert files_count < MIN_FILES + 2
    record_stream(run, details={"checksum": str(proven), "files_count": files_count})


def test_sink_that_optimises_now_and_then_keeps_the_latest_rows(lab):
    """OPTIMIZE between MERGEs, every third micro-batch and not before the third."""
    feed = Feed(
        dataset=Changes(customers=UniformKeys(300), deletes_share=0),
        seed=622,
        rows_count=2_400,
        disorder_rows=800,
    )

    def sink(place):
        upsert = UpsertSink(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id="small",
        )
        return OptimizingSink(sink=upsert, target=place.table(), every=3)

    place = lab.place()
    place.create(
        "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, "
        "operation STRING, city STRING, balance BIGINT"
    )
    lab.run(Query(name="small", feeds=(feed,), sink=sink, batches_count=4), place=place)

    history = [entry["operation"] for entry in DeltaTable(place.path()).history()]
    assert history.count("OPTIMIZE") <= 1, "at most once in four micro-batches"
    assert history.index("MERGE") == 0, "nothing was optimised after the last"
    latest = """
        SELECT * FROM changes
        QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY sequence DESC) = 1
    """
    check_table(place.path(), oracle(latest, changes=feed.table()))
