"""JSON documents whose shape drifts: kept as VARIANT, read by path."""

from __future__ import annotations

import pytest

from harness.spark.datasets import SensorDocuments
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.proof import check_table, oracle

# Old firmware gives a number, new firmware an object with the number in it.
READ = """
    SELECT device_id, event_time,
        coalesce(try_cast(document->>'$.tenths.value' AS BIGINT),
            try_cast(document->>'$.tenths' AS BIGINT)) AS tenths,
        (document->>'$.humidity')::BIGINT AS humidity,
        (document->>'$.battery')::BIGINT AS battery
    FROM sent
"""


def documents(rows_count):
    return Feed(
        dataset=SensorDocuments(drift_share=0.3),
        seed=631,
        rows_count=rows_count,
        duplicates_share=0.05,
    )


def as_variant(_place, frame):
    """Workload under test: bronze keeps the whole document."""
    from pyspark.sql.functions import expr

    return frame.select(
        "device_id", "event_time", expr("parse_json(document)").alias("document")
    )


def by_path(place, *, tolerant=True):
    """Workload under test: silver reads what it needs, in either shape."""
    tenths = "try_variant_get(document, '$.tenths', 'bigint')"
    if tolerant:
        old_or_new = f"try_variant_get(document, '$.tenths.value', 'bigint'), {tenths}"
        tenths = f"coalesce({old_or_new})"
    return place.read_stream("bronze").selectExpr(
        "device_id",
        "event_time",
        f"{tenths} AS tenths",
        "variant_get(document, '$.humidity', 'bigint') AS humidity",
        "try_variant_get(document, '$.battery', 'bigint') AS battery",
    )


def flows(feed, *, batches_count, silver=by_path):
    return [
        Query(
            name="bronze",
            feeds=(feed,),
            transform=as_variant,
            into="bronze",
            batches_count=batches_count,
        ),
        Query(name="silver", transform=silver, into="silver", batches_count=None),
    ]


@pytest.mark.benchmark(group="stream-documents")
def test_both_shapes_of_a_document_are_read(lab, sized, record_stream):
    """No document is lost to its shape; new fields are there where they are sent."""
    feed = documents(sized(full=200_000, smoke=10_000))

    run = lab.run(*flows(feed, batches_count=sized(full=6, smoke=3)), in_turn=True)

    expected = oracle(READ, sent=feed.table())
    proven = check_table(run.place.path("silver"), expected)
    nulls = oracle(
        "SELECT count(*) FILTER (tenths IS NULL) AS tenths, "
        "count(*) FILTER (battery IS NOT NULL) AS battery FROM e",
        e=expected,
    ).to_pylist()[0]
    assert nulls["tenths"] == 0
    assert nulls["battery"] > 0, "no document had drifted: nothing was shown"
    record_stream(run, warmup_count=0, details={"checksum": str(proven)})


def test_killed_ingestion_of_documents_repeats_none(lab, sized):
    """In both layers."""
    feed = documents(3_000)
    expected = oracle(READ, sent=feed.table())

    for _, run in recoveries(
        lab,
        *flows(feed, batches_count=3),
        count=sized(full=4, smoke=1),
        seed=632,
        in_turn=True,
    ):
        check_table(run.place.path("silver"), expected)


def test_reader_of_the_old_shape_only_is_found(lab):
    """The negative control: a path that new documents do not have gives nulls."""
    feed = documents(1_000)

    run = lab.run(
        *flows(
            feed,
            batches_count=1,
            silver=lambda place: by_path(place, tolerant=False),
        ),
        in_turn=True,
    )

    with pytest.raises(AssertionError, match="missing"):
        check_table(run.place.path("silver"), oracle(READ, sent=feed.table()))
