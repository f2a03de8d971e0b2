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


CHANGES = Feed(
    dataset=Changes(customers=UniformKeys(300), deletes_share=0),
    seed=622,
    rows_count=2_400,
    disorder_rows=800,
)
# Two files for each MERGE, so that OPTIMIZE always finds something to do.
TWO_FILES = {
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
}
EVERY = 3


def upserts(place):
    return UpsertSink(
        target=place.table(), keys=("customer_id",), sequence="sequence", app_id="small"
    )


def now_and_then(place):
    return OptimizingSink(sink=upserts(place), target=place.table(), every=EVERY)


def from_the_first(place):
    """As tutorials have it: 0 is a multiple of everything."""
    upsert = upserts(place)

    def sink(frame, batch_id):
        upsert(frame, batch_id)
        if batch_id % EVERY == 0:
            frame.sparkSession.sql(f"OPTIMIZE {place.table()}").collect()

    return sink


def operations_of(lab, sink):
    """Run four micro-batches; return the place and what the table's log says."""
    place = lab.place()
    place.create(
        "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, "
        "operation STRING, city STRING, balance BIGINT"
    )
    query = Query(
        name="small", feeds=(CHANGES,), sink=sink, batches_count=4, conf=TWO_FILES
    )
    lab.run(query, place=place)
    entries = DeltaTable(place.path()).history()
    return place, [entry["operation"] for entry in reversed(entries)][1:]


def test_sink_that_optimises_now_and_then_keeps_the_latest_rows(lab):
    """OPTIMIZE after every third MERGE, not before, and no row changes."""
    place, operations = operations_of(lab, now_and_then)

    assert operations == ["MERGE", "MERGE", "MERGE", "OPTIMIZE", "MERGE"]
    latest = """
        SELECT * FROM changes
        QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY sequence DESC) = 1
    """
    check_table(place.path(), oracle(latest, changes=CHANGES.table()))


def test_optimize_after_the_very_first_micro_batch_is_found(lab):
    """The planted defect: the log shows that nothing was there to be compacted."""
    _, operations = operations_of(lab, from_the_first)

    assert operations == ["MERGE", "OPTIMIZE", "MERGE", "MERGE", "MERGE", "OPTIMIZE"]
