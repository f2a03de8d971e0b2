"""How fast does a stream upsert into a Delta table with foreachBatch and MERGE?"""

from __future__ import annotations

import os

import numpy as np
import pytest

from harness.spark.merge import UpsertSink
from harness.spark.progress import elapsed_s, micro_batches

SEED = 20_260_101
SCHEMA = "key BIGINT, sequence BIGINT, amount DOUBLE"


@pytest.mark.benchmark(group="stream-merge")
def test_upsert_of_random_keys(spark, tmp_path, sized, record_durations):
    """Closed loop: each micro-batch is one file of changes to random keys.

    The value is the micro-batch duration; rows per second are in the details.
    """
    rows_per_batch = sized(full=20_000, smoke=2_000)
    warmup_count = sized(full=5, smoke=1)
    batches_count = sized(full=10, smoke=6)
    changes = write_changes(
        tmp_path / "changes",
        files_count=warmup_count + batches_count,
        rows_per_file=rows_per_batch,
        keys_count=sized(full=100_000, smoke=10_000),
    )

    query = upsert(spark, tmp_path)

    batches = micro_batches(query)
    assert [b.batch_id for b in batches] == list(range(warmup_count + batches_count))
    check_last_writer_won(tmp_path / "table", changes)
    measured = batches[warmup_count:]
    wall_s = elapsed_s(measured)
    record_durations(
        [batch.duration_s for batch in measured],
        measure="batch_duration",
        wall_s=wall_s,
        completed=len(measured),
        details={
            "rows_per_s": round(rows_per_batch * len(measured) / wall_s),
            "rows_per_batch": rows_per_batch,
            "warmup_batches_count": warmup_count,
            **merge_costs(tmp_path / "table", skip=warmup_count),
        },
    )


def write_changes(folder, *, files_count, rows_per_file, keys_count):
    """Write the changes as Parquet, one file a micro-batch, and return them all.

    Sequence numbers are shuffled over all files, so that a change often comes
    after a later one of the same key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(SEED)
    rows_count = files_count * rows_per_file
    changes = {
        "key": random.integers(0, keys_count, rows_count),
        "sequence": random.permutation(rows_count),
        "amount": random.random(rows_count),
    }
    folder.mkdir()
    for index in range(files_count):
        rows = slice(index * rows_per_file, (index + 1) * rows_per_file)
        path = folder / f"{index:06d}.parquet"
        pq.write_table(pa.table({k: v[rows] for k, v in changes.items()}), path)
        # The file source takes files in the order of their times.
        os.utime(path, (index + 1, index + 1))
    return changes


def upsert(spark, folder):
    """Run the stream over all files there are, one a micro-batch, and return it."""
    table = f"delta.`{folder / 'table'}`"
    spark.sql(f"CREATE TABLE {table} ({SCHEMA}) USING delta")
    sink = UpsertSink(
        target=table, keys=("key",), app_id="stream-merge", sequence="sequence"
    )
    query = (
        spark.readStream.schema(SCHEMA)
        .option("maxFilesPerTrigger", 1)
        .parquet((folder / "changes").as_uri())
        .writeStream.foreachBatch(sink)
        .option("checkpointLocation", (folder / "checkpoint").as_uri())
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    return query


def check_last_writer_won(path, changes):
    """Compare the table, read without a JVM, with what NumPy says it must hold."""
    import pyarrow as pa
    from deltalake import DeltaTable

    order = np.argsort(changes["sequence"])
    latest = {}
    # The last of a key in the order of the sequence: the first from behind.
    latest["key"], last = np.unique(changes["key"][order][::-1], return_index=True)
    for column in ("sequence", "amount"):
        latest[column] = changes[column][order][::-1][last]

    table = pa.table(DeltaTable(path).to_pyarrow_table()).sort_by("key")
    assert table.num_rows == len(latest["key"]), "keys are missing or doubled"
    for column, expected in latest.items():
        found = table[column].to_numpy()
        assert np.array_equal(found, expected), f"{column} is not the last writer's"


def merge_costs(path, *, skip):
    """Return what the measured MERGEs read, wrote and copied, from the table's log."""
    from deltalake import DeltaTable

    history = DeltaTable(path).history()
    merges = [h["operationMetrics"] for h in history if h["operation"] == "MERGE"]
    measured = merges[: len(merges) - skip]  # newest first

    def total(metric):
        return sum(int(metrics[metric]) for metrics in measured)

    return {
        "files_written": total("numTargetFilesAdded"),
        "files_removed": total("numTargetFilesRemoved"),
        "bytes_written": total("numTargetBytesAdded"),
        "rows_inserted": total("numTargetRowsInserted"),
        "rows_updated": total("numTargetRowsUpdated"),
        "rows_copied": total("numTargetRowsCopied"),
    }
