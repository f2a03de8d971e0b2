"""Plain, partitioned, Z-ordered and liquid tables: what a query must read of each."""

from __future__ import annotations

import pytest

from harness.spark.datasets import SensorReadings
from harness.spark.feed import Feed
from harness.spark.lab import Query
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_rows, check_table, oracle
from harness.spark.pruning import run_and_look

DEVICES_COUNT = 400
COLUMNS = (
    "device_id BIGINT, event_time TIMESTAMP, temperature DOUBLE, humidity DOUBLE, "
    "pressure DOUBLE, stream_type STRING, stream_id BIGINT, site BIGINT"
)
LAYOUTS = {
    "plain": "",
    "partitioned": "PARTITIONED BY (site)",
    "zordered": "",
    "liquid": "CLUSTER BY (device_id, temperature)",
}
OPTIMIZE = {
    "plain": "OPTIMIZE {table}",
    "partitioned": "OPTIMIZE {table}",
    "zordered": "OPTIMIZE {table} ZORDER BY (device_id, temperature)",
    "liquid": "OPTIMIZE {table}",
}
# A laptop's tables are far below the sizes at which files are split and clusters
# closed; a file of this size stands for one of 1 GB. Small enough for some 60 files:
# on a curve over two columns, one value of one of them is in the root of that, twice
# that at worst.
SMALL_FILES = {
    "spark.databricks.delta.optimize.maxFileSize": "10000",
    "spark.databricks.delta.optimize.minFileSize": "10000",
    "spark.databricks.delta.optimize.clustering.mergeStrategy"
    ".minCubeSize.threshold": "25000",
    "spark.databricks.delta.optimize.clustering.targetCubeSize": "50000",
}


@pytest.fixture
def small_files(spark):
    """Settings of this scenario only."""
    for key, value in SMALL_FILES.items():
        spark.conf.set(key, value)
    yield
    for key in SMALL_FILES:
        spark.conf.unset(key)


def readings(rows_count):
    return Feed(
        dataset=SensorReadings(devices=UniformKeys(DEVICES_COUNT)),
        seed=611,
        rows_count=rows_count,
    )


def with_site(_place, frame):
    from pyspark.sql.functions import col

    return frame.withColumn("site", col("device_id") % 4)


def ingest(place, lab, feed, layout, *, batches_count):
    place.create(COLUMNS, name=layout, clauses=LAYOUTS[layout])
    query = Query(
        name=layout,
        feeds=(feed,),
        transform=with_site,
        into=layout,
        batches_count=batches_count,
    )
    return lab.run(query, place=place)


def look(place, layout, where):
    table = place.spark.read.format("delta").load(place.path(layout).as_uri())
    return run_and_look(table.where(where).selectExpr("count(*) AS n"))


def optimize(place, layout):
    statement = OPTIMIZE[layout].format(table=place.table(layout))
    return place.spark.sql(statement).first().asDict(recursive=True)["metrics"]


@pytest.mark.needs("plans")
@pytest.mark.benchmark(group="table-layout")
@pytest.mark.parametrize("layout", LAYOUTS, ids="layout={}".format)
@pytest.mark.usefixtures("small_files")
def test_layout_changes_what_is_read_and_nothing_else(
    lab, sized, record_stream, layout
):
    """Same rows and same answers; only the number of files opened differs."""
    feed = readings(sized(full=160_000, smoke=40_000))
    place = lab.place()
    run = ingest(place, lab, feed, layout, batches_count=sized(full=6, smoke=3))
    expected = oracle("SELECT *, device_id % 4 AS site FROM sent", sent=feed.table())
    where = "device_id = 77"
    answer = oracle(f"SELECT count(*) AS n FROM sent WHERE {where}", sent=expected)

    (before,), (scan_before,) = look(place, layout, where)
    optimized = optimize(place, layout)
    (after,), (scan_after,) = look(place, layout, where)
    again = optimize(place, layout)

    proven = check_table(place.path(layout), expected)
    assert before["n"] == after["n"] == answer["n"][0].as_py()
    total = optimized["totalConsideredFiles"] or 0
    figures = {
        "files_read_before": scan_before.files_read,
        "files_read_after": scan_after.files_read,
        "files_removed": optimized["numFilesRemoved"],
        "files_added": optimized["numFilesAdded"],
        "files_considered": total,
    }
    if layout in {"zordered", "liquid"}:
        # Clustered, a device is in few files; before, it is in all of them.
        assert scan_before.files_read >= optimized["numFilesRemoved"]
        assert scan_after.files_read <= optimized["numFilesAdded"] / 2, figures
    if layout == "liquid":
        assert again["numFilesAdded"] == 0, "what is clustered was clustered again"
    record_stream(run, warmup_count=0, details={"checksum": str(proven), **figures})


def save(spark, rows, columns, path):
    spark.createDataFrame(rows, columns).write.format("delta").save(path.as_uri())


@pytest.mark.needs("plans")
@pytest.mark.usefixtures("small_files")
def test_pruning_by_partition_and_the_gap_in_open_source(lab, spark):
    """What a join lets Spark skip: partitions, and nothing else in open source.

    Databricks prunes files by what the other side of a join holds. Open source has
    that for partitions only; on other columns the keys must be put into the query.
    """
    feed = readings(40_000)
    place = lab.place()
    for layout in ("partitioned", "liquid"):
        ingest(place, lab, feed, layout, batches_count=2)
        optimize(place, layout)
    names = [(key, "north" if key == 1 else "else") for key in range(4)]
    save(spark, names, "site BIGINT, name STRING", place.path("sites"))
    rooms = [(key, "attic" if key == 77 else "else") for key in range(DEVICES_COUNT)]
    save(spark, rooms, "device_id BIGINT, name STRING", place.path("devices"))

    def dimension(name, wanted):
        table = spark.read.format("delta").load(place.path(name).as_uri())
        return table.where(f"name = '{wanted}'")

    def joined(layout, small, key):
        table = spark.read.format("delta").load(place.path(layout).as_uri())
        return run_and_look(
            table.join(small.hint("broadcast"), key).selectExpr("count(*) AS n")
        )

    sites, devices = dimension("sites", "north"), dimension("devices", "attic")
    (by_site,), (partitions, *_) = joined("partitioned", sites, "site")
    (by_device,), (clustered, *_) = joined("liquid", devices, "device_id")
    keys = [row.device_id for row in devices.collect()]
    injected = f"device_id IN ({', '.join(map(str, keys))})"
    (with_keys,), (few,) = look(place, "liquid", injected)
    (_,), (literal,) = look(place, "liquid", "device_id = 77")

    sent = feed.table()
    n_site = oracle("SELECT count(*) AS n FROM s WHERE device_id % 4 = 1", s=sent)
    n_device = oracle("SELECT count(*) AS n FROM s WHERE device_id = 77", s=sent)
    assert by_site["n"] == n_site["n"][0].as_py()
    assert by_device["n"] == with_keys["n"] == n_device["n"][0].as_py()
    assert partitions.files_static is not None
    assert partitions.files_read < partitions.files_static
    # The gap: all files of the clustered table, though the keys are in few.
    assert clustered.files_static in {None, clustered.files_read}
    assert few.files_read == literal.files_read < clustered.files_read


def test_compaction_is_not_seen_by_a_stream_that_reads_the_table(lab, sized):
    """OPTIMIZE rewrites every row; a stream over the table gets none of them again."""
    feed = readings(sized(full=40_000, smoke=8_000))
    place = lab.place()
    ingest(place, lab, feed, "plain", batches_count=4)
    reader = Query(
        name="reader",
        transform=lambda p: p.read_stream("plain"),
        into="copy",
        batches_count=None,
    )
    lab.run(reader, place=place)

    metrics = optimize(place, "plain")
    again = lab.run(reader, place=place)

    assert metrics["numFilesRemoved"] > metrics["numFilesAdded"]
    assert sum(batch.rows_count for batch in again.batches["reader"]) == 0
    expected = oracle("SELECT *, device_id % 4 AS site FROM sent", sent=feed.table())
    check_table(place.path("plain"), expected)
    check_table(place.path("copy"), expected)


def test_filter_that_reads_too_few_files_would_be_found(lab):
    """The negative control: an answer from half of the files is not the answer."""
    feed = readings(4_000)
    place = lab.place()
    ingest(place, lab, feed, "plain", batches_count=2)
    expected = oracle("SELECT *, device_id % 4 AS site FROM sent", sent=feed.table())
    half = place.spark.read.parquet(
        *(str(p) for p in sorted(place.path("plain").glob("*.parquet"))[:2])
    ).toArrow()

    with pytest.raises(AssertionError, match="missing"):
        check_rows(half, expected)
