"""MERGE where others work on the table, and where most of it need not be read."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from harness import SparkError
from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.spark.datasets import Changes
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.merge import UpsertSink
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_table, oracle

COLUMNS = (
    "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, operation STRING, "
    "city STRING, balance BIGINT"
)
LATEST = """
    SELECT * FROM changes
    QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY sequence DESC) = 1
"""
CHANGES = Feed(
    dataset=Changes(customers=UniformKeys(200), deletes_share=0),
    seed=691,
    rows_count=1_200,
    disorder_rows=600,
)
# Two files for each MERGE, so that OPTIMIZE always finds something to do.
TWO_FILES = {
    "spark.sql.autoBroadcastJoinThreshold": "-1",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
}
TIMEOUT_S = 240.0


def wait_for(path, *, alive=lambda: True):
    """Wait until a file is there; in a worker of Spark, or in the test."""
    deadline_ns = SYSTEM_CLOCK.monotonic_ns() + int(TIMEOUT_S * NS_PER_S)
    while not path.exists() and alive():
        assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, f"{path.name} never came"
        SYSTEM_CLOCK.sleep(0.01)


def held_up(place, frame):
    """Rows of the second micro-batch come when the table has been optimised.

    They are made while the MERGE runs, after it has looked at the table: so the
    OPTIMIZE is committed between the two, every time. The task with the last change
    waits; the other slot is left to the OPTIMIZE.
    """
    merging, optimized = place.folder / "merging", place.folder / "optimized"
    last = CHANGES.rows_count - 1

    def hold(batches):
        for batch in batches:
            if last in batch.column("sequence").to_pylist():
                merging.touch()
                wait_for(optimized)
            yield batch

    return frame.mapInArrow(hold, frame.schema)


def run_beside_optimize(lab, *, attempts_max):
    place = lab.place()
    place.create(COLUMNS)

    def sink(place):
        return UpsertSink(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id="beside",
            attempts_max=attempts_max,
        )

    ended = threading.Event()

    def optimize():
        try:
            wait_for(place.folder / "merging", alive=lambda: not ended.is_set())
            place.spark.sql(f"OPTIMIZE {place.table()}").collect()
        finally:
            (place.folder / "optimized").touch()

    query = Query(
        name="beside",
        feeds=(CHANGES,),
        transform=held_up,
        sink=sink,
        batches_count=2,
        conf=TWO_FILES,
    )
    with ThreadPoolExecutor(1) as beside:
        optimizing = beside.submit(optimize)
        try:
            lab.run(query, place=place)
        finally:
            ended.set()
        optimizing.result()
    return place


def test_merge_that_meets_an_optimize_is_tried_again_and_exact(lab, caplog):
    """The files it was to rewrite are gone: it says so, and reads the new ones."""
    place = run_beside_optimize(lab, attempts_max=4)

    history = [e["operation"] for e in reversed(DeltaTable(place.path()).history())]
    assert history[1:] == ["MERGE", "OPTIMIZE", "MERGE"]
    assert "met the commit of another" in caplog.text
    check_table(place.path(), oracle(LATEST, changes=CHANGES.table()))


def test_merge_that_is_not_tried_again_dies_of_an_optimize(lab):
    """The negative control: the same meeting, with one attempt only."""
    with pytest.raises(SparkError, match="DELTA_CONCURRENT_"):
        run_beside_optimize(lab, attempts_max=1)


def ranges_table(place, *, files_count):
    """A table whose files hold a thousand keys each, in order; nothing merged yet."""
    place.create(COLUMNS)
    for number in range(files_count):
        place.spark.range(number * 1000, number * 1000 + 1000, 1, 1).selectExpr(
            "id AS customer_id",
            "0L AS sequence",
            "timestamp '2026-01-01' AS changed_at",
            "'insert' AS operation",
            "'Oslo' AS city",
            "0L AS balance",
        ).write.format("delta").mode("append").save(place.path().as_uri())


@pytest.mark.parametrize("prune_by", [(), ("customer_id",)], ids=["read=all", "pruned"])
def test_pruned_merge_reads_only_the_files_between_its_least_and_greatest_key(
    lab, prune_by
):
    """Proof that the others are not opened: they are gone, and it does not notice.

    Without the range, the same MERGE fails for want of them.
    """
    place = lab.place()
    ranges_table(place, files_count=6)
    # Keys 0 to 199, so the first file only.
    first, *others = sorted(
        pa.table(DeltaTable(place.path()).get_add_actions(flatten=True)).to_pylist(),
        key=lambda file: file["min.customer_id"],
    )
    assert first["max.customer_id"] == 999
    kept = {file["path"]: (place.path() / file["path"]).read_bytes() for file in others}
    for name in kept:
        (place.path() / name).unlink()

    def sink(place):
        return UpsertSink(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id="pruned",
            prune_by=prune_by,
        )

    query = Query(name="pruned", feeds=(CHANGES,), sink=sink, batches_count=2)
    if not prune_by:
        with pytest.raises(SparkError, match=r"FILE_NOT_EXIST|FileNotFound|not exist"):
            lab.run(query, place=place)
        return
    lab.run(query, place=place)

    merges = [
        entry["operationMetrics"]
        for entry in DeltaTable(place.path()).history()
        if entry["operation"] == "MERGE"
    ]
    # Newest first. The first one rewrote the one file, and none of the others.
    assert int(merges[-1]["numTargetFilesRemoved"]) == 1
    remaining = pa.table(DeltaTable(place.path()).get_add_actions(flatten=True))
    assert kept.keys() <= set(remaining["path"].to_pylist())
    for name, content in kept.items():
        (place.path() / name).write_bytes(content)
    expected = oracle(
        f"""
        WITH latest AS ({LATEST})
        SELECT * FROM latest
        UNION ALL BY NAME
        SELECT range AS customer_id, 0 AS sequence,
               '2026-01-01 00:00:00+00'::TIMESTAMPTZ AS changed_at,
               'insert' AS operation, 'Oslo' AS city, 0 AS balance
        FROM range(6000) WHERE range NOT IN (SELECT customer_id FROM latest)
        """,
        changes=CHANGES.table(),
    )
    check_table(place.path(), expected)


def test_pruning_by_a_column_that_is_no_key_is_refused():
    """A key whose row lies outside the range would be inserted a second time."""
    with pytest.raises(ValueError, match="balance"):
        UpsertSink(
            target="t",
            keys=("customer_id",),
            sequence="sequence",
            app_id=None,
            prune_by=("balance",),
        )
