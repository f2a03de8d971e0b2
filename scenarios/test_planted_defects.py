"""Defects that streaming jobs have had again and again: each is found by the proof.

Every sink here is one that somebody wrote and used. The rows it gets are those of the
upsert scenario, and so is the check: it must fail. Those that take a second stream,
run or listener to show are in `test_planted_neighbours.py`.
"""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from harness import SparkError
from harness.spark.datasets import Changes
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import UpsertSink
from harness.spark.noise import UniformKeys
from harness.spark.observing.jobs import check_nothing_collected
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


def known_by_estimate(place):
    """Ids that were there at the start decide what is new, on the driver."""
    known = set()

    def sink(frame, batch_id):
        session = frame.sparkSession
        if batch_id == 0:
            ids = session.sql(f"SELECT customer_id FROM {place.table()}").collect()
            known.update(row.customer_id for row in ids)
        latest = {row.customer_id: row for row in frame.collect()}
        new = [row for key, row in latest.items() if key not in known]
        rows = session.createDataFrame(new, frame.schema)
        rows.write.format("delta").mode("append").save(place.path().as_uri())

    return sink


def failed_and_printed(place):
    """A name that nothing defines, in a sink that prints errors and goes on."""

    def sink(frame, _batch_id):
        try:
            rows = frame.write.format("delta").mode("append")
            rows.save(target_table_name)  # noqa: F821 - the defect
        except Exception as error:  # noqa: BLE001 - the defect
            print(f"batch of {place.table()} failed: {error}")  # noqa: T201

    return sink


def upserts(sink, *, feed=CHANGES, batches_count=2):
    return Query(name="upserts", feeds=(feed,), sink=sink, batches_count=batches_count)


@pytest.mark.parametrize(
    "defect",
    [any_duplicate, last_to_arrive, limited, known_by_estimate, failed_and_printed],
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


def test_name_that_nothing_defines_stops_the_stream(lab):
    """Only the first micro-batch finds out: the run fails, with the name."""

    def sink(_place):
        def write(frame, _batch_id):
            frame.write.format("delta").save(target_table_name)  # noqa: F821

        return write

    with pytest.raises(SparkError, match="target_table_name"):
        lab.run(upserts(sink, batches_count=1))


@pytest.mark.needs("plans")  # what a task answered is known to the JVM
def test_micro_batches_that_are_collected_are_found(lab):
    """All rows are there, once; but the driver had to hold a whole micro-batch."""
    many = dataclasses.replace(CHANGES, rows_count=20_000)

    def upsert(place):
        return UpsertSink(
            target=place.table(), keys=("customer_id",), sequence="sequence", app_id="x"
        )

    def collecting(place):
        def sink(frame, batch_id):
            rows = frame.sparkSession.createDataFrame(frame.collect(), frame.schema)
            upsert(place)(rows, batch_id)

        return sink

    def checked(sink):
        place = lab.place()
        place.create(COLUMNS)
        run_ids = []
        lab.run(
            upserts(sink, feed=many, batches_count=1),
            place=place,
            watch=lambda _place, started: run_ids.extend(q.runId for q in started),
        )
        check_table(place.path(), oracle(LATEST, changes=many.table()))
        (run_id,) = run_ids
        check_nothing_collected(lab.spark, run_id)

    checked(upsert)
    with pytest.raises(AssertionError, match="must not be collected"):
        checked(collecting)


def test_function_that_answers_otherwise_on_replay_is_found(lab):
    """Names made up in the query: a micro-batch that comes again has others.

    One that was killed after the table had it is delivered once more; what the table
    remembers skips it, while a copy written after the restart gets the new names.
    """

    def named(function):
        def transform(_place, frame):
            return frame.withColumn("city", function())

        return transform

    def prepare(place):
        place.create(COLUMNS)
        place.create(COLUMNS, name="copy")

    def sink(place):
        upsert, copy = (
            UpsertSink(
                target=place.table(name),
                keys=("customer_id",),
                sequence="sequence",
                app_id=name,
            )
            for name in ("table", "copy")
        )

        def both(frame, batch_id):
            upsert(frame, batch_id)
            copy(frame, batch_id)

        return both

    def after_a_kill(function):
        query = dataclasses.replace(
            upserts(sink, batches_count=1), transform=named(function)
        )
        ((kill, run),) = recoveries(lab, query, prepare=prepare, count=1, seed=653)
        assert kill.after_commit
        assert kill.inside_batch
        check_table(run.place.path(), rows_of(run.place.path("copy")))

    after_a_kill(same_each_time)
    with pytest.raises(AssertionError, match="not expected"):
        after_a_kill(made_up)


def same_each_time():
    from pyspark.sql import functions as f

    return f.md5(f.concat_ws("/", "customer_id", "sequence"))


def made_up():
    """As a generator of names in a UDF does."""
    from pyspark.sql import functions as f

    return f.udf(lambda: uuid.uuid4().hex).asNondeterministic()()


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
    unharmed = lab.run(upserts(concatenated), place=place)
    expected = rows_of(unharmed.place.path())

    ((kill, run),) = recoveries(
        lab,
        upserts(concatenated),
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
