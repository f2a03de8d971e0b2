"""Defects that show when another is there: a stream, a run before, a listener.

Each is one that streaming jobs have had again and again. The order of events that
brings it out is forced with barriers and events; none of these tests hopes for it.
"""

from __future__ import annotations

import dataclasses
import threading
import uuid

import pytest
from pyspark.sql.streaming.listener import StreamingQueryListener

from harness import SparkError
from harness.clock import SYSTEM_CLOCK
from harness.spark.datasets import Changes, Orders
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import AddSink, FanOut, UpsertSink
from harness.spark.noise import HotKeys, UniformKeys
from harness.spark.observing.jobs import check_no_jobs_beside, jobs_beside
from harness.spark.observing.listener import StreamObserver
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
    dataset=Changes(customers=UniformKeys(100), deletes_share=0),
    seed=681,
    rows_count=600,
    disorder_rows=300,
)
OTHERS = dataclasses.replace(CHANGES, seed=682)
ORDERS = Feed(
    dataset=Orders(customers=HotKeys(50, hot_count=5, hot_share=0.5)),
    seed=683,
    rows_count=800,
)
SUMS = "SELECT customer_id, sum(amount)::BIGINT AS amount FROM orders GROUP BY 1"
MEETING_TIMEOUT_S = 240.0


def upsert_into(place, table, *, app_id):
    return UpsertSink(
        target=place.table(table),
        keys=("customer_id",),
        sequence="sequence",
        app_id=app_id,
    )


def upserts(name, feed, sink, *, batches_count=2):
    return Query(name=name, feeds=(feed,), sink=sink, batches_count=batches_count)


def totals(sink):
    return Query(
        name="totals",
        feeds=(ORDERS,),
        transform=lambda _place, frame: frame.select("customer_id", "amount"),
        sink=sink,
        batches_count=2,
    )


def totals_table(place):
    place.create("customer_id BIGINT, amount BIGINT")


@pytest.mark.needs("plans")  # the barrier is in this process, so must the sinks be
def test_view_of_a_neighbour_is_found(lab):
    """Two streams, one global view by a fixed name: each merges what came last."""
    both_have_named_it, both_have_merged = (threading.Barrier(2) for _ in range(2))

    def clashing(table):
        def writer(place):
            def sink(frame, _batch_id):
                frame.createOrReplaceGlobalTempView("updates")
                both_have_named_it.wait(MEETING_TIMEOUT_S)
                frame.sparkSession.sql(
                    f"MERGE INTO {place.table(table)} AS t USING global_temp.updates "
                    "AS s ON t.customer_id = s.customer_id "
                    "WHEN MATCHED AND s.sequence > t.sequence THEN UPDATE SET * "
                    "WHEN NOT MATCHED THEN INSERT *"
                ).collect()
                both_have_merged.wait(MEETING_TIMEOUT_S)

            return sink

        return writer

    # One row for each key, so that nothing but the view is wrong.
    feeds = {
        name: dataclasses.replace(
            CHANGES,
            dataset=Changes(customers=UniformKeys(10**9), deletes_share=0),
            seed=seed,
        )
        for name, seed in (("ours", 684), ("theirs", 685))
    }
    place = lab.place()
    for name in feeds:
        place.create(COLUMNS, name=name)

    lab.run(
        *(upserts(name, feed, clashing(name)) for name, feed in feeds.items()),
        place=place,
    )

    wrong = 0
    for name, feed in feeds.items():
        try:
            check_table(place.path(name), feed.table())
        except AssertionError:
            wrong += 1
    place.spark.catalog.dropGlobalTempView("updates")
    assert wrong, "neither table has rows of the other"


def test_app_id_of_another_job_is_found(lab):
    """Under a used name, a new checkpoint's batches count as written, and are not."""
    place = lab.place()
    place.create(COLUMNS)

    def sink(place):
        return upsert_into(place, "table", app_id="customers")

    lab.run(upserts("first", CHANGES, sink), place=place)
    lab.run(upserts("second", OTHERS, sink), place=place)

    both = oracle(
        "SELECT * FROM a UNION ALL SELECT * FROM b",
        a=CHANGES.table(),
        b=OTHERS.table(),
    )
    with pytest.raises(AssertionError, match="missing"):
        check_table(place.path(), oracle(LATEST, changes=both))


def test_app_id_of_every_run_is_found(lab):
    """A name made anew at each start protects nothing: the replay counts twice."""

    def sink(place):
        return AddSink(
            target=place.table(), keys=("customer_id",), app_id=uuid.uuid4().hex
        )

    ((kill, run),) = recoveries(
        lab, totals(sink), prepare=totals_table, count=1, seed=515
    )

    assert kill.after_commit
    assert kill.inside_batch
    with pytest.raises(AssertionError, match="not expected"):
        check_table(run.place.path(), oracle(SUMS, orders=ORDERS.table()))


def order_by_sleep(place, *, first_is_done):
    """Wait a little and hope: the rows to update should be there by now."""
    del first_is_done

    def sink(frame, _batch_id):
        SYSTEM_CLOCK.sleep(0.01)
        view = f"updates_{uuid.uuid4().hex}"
        upsert = upsert_into(place, "table", app_id=None)
        upsert.source(frame).createOrReplaceTempView(view)
        frame.sparkSession.sql(
            f"MERGE INTO {place.table()} AS t USING {view} AS s "
            "ON t.customer_id = s.customer_id "
            "WHEN MATCHED AND s.sequence > t.sequence THEN UPDATE SET *"
        ).collect()

    return sink


def order_by_sequence(place, *, first_is_done):
    """Whoever comes first inserts; the sequence says which row stays."""
    del first_is_done
    return upsert_into(place, "table", app_id="late")


@pytest.mark.needs("plans")  # the event is in this process, so must the sinks be
@pytest.mark.parametrize("order", [order_by_sleep, order_by_sequence])
def test_order_of_two_streams_kept_by_sleeping_is_found(lab, order):
    """The first stream has a slow day: what the second one updates is not there yet.

    The sink that goes by the sequence gets the same slow day, and is right.
    """
    second_is_over = threading.Event()
    first_feed = CHANGES
    second_feed = dataclasses.replace(
        CHANGES, dataset=Later(customers=UniformKeys(100), deletes_share=0), seed=686
    )

    def slow(place):
        upsert = upsert_into(place, "table", app_id="first")

        def sink(frame, batch_id):
            assert second_is_over.wait(MEETING_TIMEOUT_S)
            upsert(frame, batch_id)

        return sink

    def second(place):
        late = order(place, first_is_done=None)

        def sink(frame, batch_id):
            late(frame, batch_id)
            second_is_over.set()

        return sink

    place = lab.place()
    place.create(COLUMNS)
    lab.run(
        upserts("first", first_feed, slow, batches_count=1),
        upserts("second", second_feed, second, batches_count=1),
        place=place,
    )

    sent = oracle(
        "SELECT * FROM a UNION ALL SELECT * FROM b",
        a=first_feed.table(),
        b=second_feed.table(),
    )
    expected = oracle(LATEST, changes=sent)
    if order is order_by_sequence:
        check_table(place.path(), expected)
        return
    with pytest.raises(AssertionError, match="missing"):
        check_table(place.path(), expected)


class Later(Changes):
    """Changes that all come after those of `Changes`."""

    def columns(self, rows):
        found = dict(super().columns(rows))
        found["sequence"] = found["sequence"] + 10**6
        return found


class CountingListener(StreamingQueryListener):
    """Runs a Spark job in each of its callbacks, as tutorials do."""

    def __init__(self, spark):
        self._spark = spark

    def onQueryStarted(self, event):  # noqa: N802 - Spark's name
        self._spark.createDataFrame([(str(event.runId),)], "run STRING").count()

    def onQueryProgress(self, event):  # noqa: N802 - Spark's name
        self._spark.createDataFrame([(event.progress.batchId,)], "n BIGINT").collect()

    def onQueryIdle(self, event):  # noqa: N802 - Spark's name
        pass

    def onQueryTerminated(self, event):  # noqa: N802 - Spark's name
        pass


@pytest.mark.needs("plans")  # jobs are counted in the JVM of this process
def test_listener_that_runs_jobs_is_found(lab, spark):
    """Every stream of the session waits for them; ours runs none, and shows it."""
    query = Query(name="fed", feeds=(ORDERS,), batches_count=2)

    def jobs_with(listener):
        spark.streams.addListener(listener)
        try:
            before = jobs_beside(spark)
            lab.run(query, metered=False)
            check_no_jobs_beside(spark, before)
        finally:
            spark.streams.removeListener(listener)

    jobs_with(StreamObserver())
    with pytest.raises(AssertionError, match="beside the streams"):
        jobs_with(CountingListener(spark))


@pytest.mark.needs("plans")  # the barrier is in this process, so must the sinks be
def test_fan_out_that_is_not_parallel_is_found(lab):
    """Two tables written at once meet in the middle; one after the other, never."""

    def fan_out(*, threads_count, meeting):
        def sink(_place):
            def write(frame, _batch_id):
                frame.count()
                meeting.wait(1.0 if threads_count == 1 else MEETING_TIMEOUT_S)

            return FanOut(
                sinks=(write, write), app_id=None, threads_count=threads_count
            )

        return upserts("fan-out", CHANGES, sink, batches_count=1)

    lab.run(fan_out(threads_count=2, meeting=threading.Barrier(2)))
    with pytest.raises(SparkError, match="tables failed"):
        lab.run(fan_out(threads_count=1, meeting=threading.Barrier(2)))


class ByHand(Query):
    """A query started as in a notebook, with a checkpoint of its own."""

    def start(self, place, **_how):
        writer = self.frame(place, live_since_ns=None).writeStream
        writer = writer.option("checkpointLocation", self.checkpoint(place))
        return (
            writer.trigger(availableNow=True)
            .format("delta")
            .start(place.path(self.into).as_uri())
        )

    def checkpoint(self, place):
        raise NotImplementedError


class WithComma(ByHand):
    def checkpoint(self, place):
        path = (place.checkpoint(self.name).as_uri(),)
        return path  # noqa: RET504 - as it is written


class Elsewhere(ByHand):
    def checkpoint(self, place):
        return (place.folder / uuid.uuid4().hex).as_uri()


def test_path_with_a_comma_behind_it_is_found(lab):
    """A comma at the end of the line makes a tuple of it: neither table nor start."""

    def sink(place):
        path = (place.path(),)
        return UpsertSink(
            target=f"delta.`{path}`",
            keys=("customer_id",),
            sequence="sequence",
            app_id="x",
        )

    with pytest.raises(SparkError, match="direct query on files: delta"):
        lab.run(upserts("into", CHANGES, sink))
    with pytest.raises(Exception, match="URISyntaxException"):
        lab.run(WithComma(name="by-hand", feeds=(CHANGES,)))


def test_checkpoint_that_is_elsewhere_is_found(lab):
    """All rows are there, once; but the next run would begin with the first again."""
    with pytest.raises(SparkError, match="has no checkpoint in"):
        lab.run(Elsewhere(name="by-hand", feeds=(CHANGES,)))
