"""Defects that streaming jobs have had again and again: each is found by the proof.

Every sink here is one that somebody wrote and used. The rows it gets are those of the
upsert scenario, and so is the check: it must fail. Those that take a second stream,
run or listener to show are in `test_planted_neighbours.py`.
"""

from __future__ import annotations

import uuid

import pytest

from harness import SparkError
from harness.spark.datasets import Changes
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import UpsertSink
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_offsets, check_table, oracle, rows_of

COLUMNS = (
    "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, operation STRING, "
    "city STRING, balance BIGINT"
)
CHANGES = Feed(
    dataset=Changes(customers=UniformKeys(100), deletes_share=0),
    seed=651,
    rows_count=1_000,
    disorder_rows=500,
    duplicates_share=0.2,
    duplicates_distance=100,
)
LATEST = """
    SELECT * FROM changes
    QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY sequence DESC) = 1
"""
INSERTED = "MERGE INTO {0} AS t USING {1} AS s ON t.customer_id = s.customer_id "


def merged(place, frame, on_match):
    """MERGE as it is often written, with the defect in what is merged."""
    view = f"updates_{uuid.uuid4().hex}"
    frame.createOrReplaceTempView(view)
    frame.sparkSession.sql(
        INSERTED.format(place.table(), view)
        + f"{on_match} WHEN NOT MATCHED THEN INSERT *"
    ).collect()


def ties_by_rank(place):
    """rank() gives equal rows the same rank: MERGE then has several sources."""

    def sink(frame, _batch_id):
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        window = Window.partitionBy("customer_id").orderBy(f.col("sequence").desc())
        latest = frame.withColumn("r", f.rank().over(window)).where("r = 1").drop("r")
        merged(place, latest, "WHEN MATCHED THEN UPDATE SET *")

    return sink


def any_duplicate(place):
    """DropDuplicates keeps whichever row comes first."""

    def sink(frame, _batch_id):
        merged(
            place,
            frame.dropDuplicates(["customer_id"]),
            "WHEN MATCHED THEN UPDATE SET *",
        )

    return sink


def last_to_arrive(place):
    """The latest of each micro-batch, whatever the table has already."""
    upsert = UpsertSink(
        target=place.table(), keys=("customer_id",), sequence="sequence", app_id="x"
    )

    def sink(frame, _batch_id):
        merged(place, upsert.source(frame), "WHEN MATCHED THEN UPDATE SET *")

    return sink


def limited(place):
    """A limit that once kept a demonstration short."""
    upsert = UpsertSink(
        target=place.table(), keys=("customer_id",), sequence="sequence", app_id="x"
    )
    return lambda frame, n: upsert(frame.limit(50), n)


def upserts(sink, *, batches_count=2):
    return Query(
        name="upserts", feeds=(CHANGES,), sink=sink, batches_count=batches_count
    )


@pytest.mark.parametrize(
    "defect",
    [any_duplicate, last_to_arrive, limited],
    ids=lambda defect: f"defect={defect.__name__}",
)
def test_table_with_wrong_rows_is_found(lab, defect):
    place = lab.place()
    place.create(COLUMNS)

    lab.run(upserts(defect), place=place)

    with pytest.raises(AssertionError, match="missing"):
        check_table(place.path(), oracle(LATEST, changes=CHANGES.table()))


def test_ties_in_a_micro_batch_stop_the_stream(lab):
    """Not silently wrong, but dead: the run fails, with Delta's own words."""
    place = lab.place()
    place.create(COLUMNS)

    with pytest.raises(SparkError, match="DELTA_MULTIPLE_SOURCE_ROW"):
        lab.run(upserts(ties_by_rank), place=place)


def test_events_concatenated_again_on_replay_are_found(lab):
    """Lists kept in the table, each micro-batch appended: a replay appends twice."""

    def prepare(place):
        place.create("customer_id BIGINT, events STRING")

    def concatenated(place):
        def sink(frame, _batch_id):
            from pyspark.sql import functions as f

            sequences = f.sort_array(f.collect_list("sequence")).cast("string")
            lists = frame.groupBy("customer_id").agg(sequences.alias("events"))
            merged(
                place,
                lists,
                "WHEN MATCHED THEN UPDATE SET t.events = concat(t.events, s.events)",
            )

        return sink

    place = lab.place()
    prepare(place)
    unharmed = lab.run(upserts(concatenated, batches_count=3), place=place)
    expected = rows_of(unharmed.place.path())

    ((kill, run),) = recoveries(
        lab,
        upserts(concatenated, batches_count=3),
        prepare=prepare,
        count=1,
        seed=652,
    )

    assert kill.inside_batch
    with pytest.raises(AssertionError, match="not expected"):
        check_table(run.place.path(), expected)


def test_new_checkpoint_for_every_run_is_found(lab):
    """A checkpoint named by chance reads everything again: rows come twice."""
    place = lab.place()
    query = Query(name="fixed", feeds=(CHANGES,), batches_count=1)
    lab.run(query, place=place)

    by_chance = Query(name=uuid.uuid4().hex, feeds=(CHANGES,), batches_count=1)
    again = lab.run(by_chance, place=place)

    check_offsets(again.batches[by_chance.name], CHANGES)  # that alone looks well
    with pytest.raises(AssertionError, match="not expected, or too many"):
        check_table(place.path(), CHANGES.table())
