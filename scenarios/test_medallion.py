"""Bronze, silver, gold: two sources fan in, rows are cleaned, totals are kept."""

from __future__ import annotations

import dataclasses

import pytest

from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import AddSink
from harness.spark.noise import ZipfKeys
from harness.spark.proof import check_offsets, check_table, oracle

ALL_ROWS = "SELECT *, 'shop' AS origin FROM shop UNION ALL SELECT *, 'web' FROM web"
CLEAN = "SELECT DISTINCT * FROM bronze WHERE amount >= 500"
TOTALS = """
    SELECT status, count(*) AS orders, sum(amount)::BIGINT AS amount
    FROM silver GROUP BY status
"""
COLUMNS = (
    "order_id BIGINT, customer_id BIGINT, event_time TIMESTAMP, amount BIGINT, "
    "status STRING, origin STRING"
)


def feeds(rows_count):
    shop = Feed(
        dataset=Orders(customers=ZipfKeys(1000)),
        seed=591,
        rows_count=rows_count,
        duplicates_share=0.1,
        duplicates_distance=500,
    )
    return {"shop": shop, "web": dataclasses.replace(shop, seed=592)}


def flows(sources, *, batches_count):
    """Return the queries of the pipeline, each reading what the one before wrote."""

    def origin(name):
        def transform(_place, frame):
            from pyspark.sql.functions import lit

            return frame.withColumn("origin", lit(name))

        return transform

    bronze = [
        Query(
            name=f"bronze_{name}",
            feeds=(feed,),
            transform=origin(name),
            into="bronze",
            batches_count=batches_count,
        )
        for name, feed in sources.items()
    ]

    def clean(place):
        rows = place.read_stream("bronze").where("amount >= 500")
        return rows.withWatermark("event_time", "1 hour").dropDuplicatesWithinWatermark(
            ["origin", "order_id"]
        )

    silver = Query(name="silver", transform=clean, into="silver", batches_count=None)

    def amounts(place):
        from pyspark.sql.functions import lit

        rows = place.read_stream("silver")
        return rows.select("status", lit(1).cast("bigint").alias("orders"), "amount")

    def add(place):
        return AddSink(target=place.table("gold"), keys=("status",), app_id="gold")

    gold = Query(name="gold", transform=amounts, sink=add, batches_count=None)
    return [*bronze, silver, gold]


def tables(place):
    place.create(COLUMNS, name="bronze")
    place.create(COLUMNS, name="silver")
    place.create("status STRING, orders BIGINT, amount BIGINT", name="gold")


def check_layers(place, sources):
    """Check each layer against what the one before it should have held."""
    sent = {name: feed.table() for name, feed in sources.items()}
    bronze = oracle(ALL_ROWS, **sent)
    silver = oracle(CLEAN, bronze=bronze)
    check_table(place.path("bronze"), bronze)
    check_table(place.path("silver"), silver)
    return check_table(place.path("gold"), oracle(TOTALS, silver=silver))


@pytest.mark.benchmark(group="stream-medallion")
def test_rows_are_conserved_from_layer_to_layer(lab, sized, record_stream):
    """And a second run processes only what came since."""
    count = sized(full=100_000, smoke=6_000)
    first = feeds(count)
    more = {
        name: dataclasses.replace(feed, rows_count=count + count // 2)
        for name, feed in first.items()
    }
    place = lab.place()
    tables(place)

    run = lab.run(
        *flows(first, batches_count=sized(full=4, smoke=2)), place=place, in_turn=True
    )
    check_layers(place, first)
    again = lab.run(
        *flows(more, batches_count=sized(full=2, smoke=1)), place=place, in_turn=True
    )

    proven = check_layers(place, more)
    check_offsets(run.batches["bronze_shop"], first["shop"])
    new_rows = sum(batch.rows_count for batch in again.batches["bronze_shop"])
    assert new_rows == count // 2
    record_stream(run, warmup_count=0, details={"checksum": str(proven)})


def test_killed_pipeline_goes_on_in_every_layer(lab, sized):
    """A layer that was killed, and those after it, catch up exactly."""
    sources = feeds(2_000)

    for _, run in recoveries(
        lab,
        *flows(sources, batches_count=2),
        prepare=tables,
        count=sized(full=4, smoke=1),
        seed=593,
        in_turn=True,
    ):
        check_layers(run.place, sources)


def test_layer_that_drops_rows_silently_is_found(lab):
    """The negative control: a limit before the write, while offsets go on."""
    sources = feeds(1_000)
    *bronze, _, _ = flows(sources, batches_count=2)

    def limited(place):
        def sink(frame, _batch_id):
            frame.limit(100).write.format("delta").mode("append").save(
                place.path("bronze").as_uri()
            )

        return sink

    place = lab.place()
    tables(place)
    lab.run(
        *(dataclasses.replace(query, sink=limited) for query in bronze), place=place
    )

    with pytest.raises(AssertionError, match="missing"):
        check_layers(place, sources)
