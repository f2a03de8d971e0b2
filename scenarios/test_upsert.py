"""A stream keeps a table of the latest state: MERGE in foreachBatch (SCD type 1)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.spark.datasets import Changes, Orders
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.merge import AddSink, FanOut, UpsertSink
from harness.spark.noise import HotKeys, UniformKeys
from harness.spark.proof import check_offsets, check_table, oracle

COLUMNS = (
    "customer_id BIGINT, sequence BIGINT, changed_at TIMESTAMP, operation STRING, "
    "city STRING, balance BIGINT"
)
LATEST = """
    SELECT * FROM changes
    QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY sequence DESC) = 1
"""


def changes(rows_count, *, keys_count, seed=511):
    """Changes of customers, out of order over two micro-batches, some sent twice."""
    return Feed(
        dataset=Changes(customers=UniformKeys(keys_count), deletes_share=0),
        seed=seed,
        rows_count=rows_count,
        disorder_rows=rows_count // 2,
        duplicates_share=0.05,
    )


def upserts(name, feed, *, batches_count, only=None):
    def sink(place):
        return UpsertSink(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id=name,
            only=only,
        )

    return Query(name=name, feeds=(feed,), sink=sink, batches_count=batches_count)


def empty_table(place):
    place.create(COLUMNS)


@pytest.mark.benchmark(group="stream-upsert")
def test_last_writer_wins(lab, sized, record_stream):
    """However late an older change comes, the latest one of each key is kept."""
    feed = changes(
        sized(full=160_000, smoke=8_000), keys_count=sized(full=50_000, smoke=2_000)
    )
    query = upserts("upserts", feed, batches_count=sized(full=8, smoke=3))
    place = lab.place()
    empty_table(place)

    run = lab.run(query, place=place)

    check_offsets(run.batches["upserts"], feed)
    proven = check_table(place.path(), oracle(LATEST, changes=feed.table()))
    record_stream(run, details={"checksum": str(proven)})


def test_killed_upsert_goes_on_with_the_last_writer(lab, sized):
    """A restart changes nothing, wherever the stream was killed."""
    feed = changes(4_000, keys_count=1_000)
    query = upserts("upserts", feed, batches_count=sized(full=4, smoke=3))
    expected = oracle(LATEST, changes=feed.table())

    for _, run in recoveries(
        lab, query, prepare=empty_table, count=sized(full=6, smoke=1), seed=512
    ):
        check_table(run.place.path(), expected)


@dataclass(frozen=True, kw_only=True)
class Converted(UpsertSink):
    """An upsert with parameters of its own: balances are converted on the way."""

    factor: int

    def source(self, frame):
        latest = super().source(frame)
        return latest.withColumn("balance", latest.balance * self.factor)


@pytest.mark.parametrize("factor", [2, 7], ids="factor={}".format)
def test_parameters_of_a_sink_reach_its_micro_batches(lab, factor):
    """One class, several jobs: what differs is given to the sink, not global."""
    feed = changes(2_000, keys_count=500)

    def sink(place):
        return Converted(
            target=place.table(),
            keys=("customer_id",),
            sequence="sequence",
            app_id=f"converted-{factor}",
            factor=factor,
        )

    place = lab.place()
    empty_table(place)
    lab.run(
        Query(name="convert", feeds=(feed,), sink=sink, batches_count=2), place=place
    )

    expected = oracle(
        f"SELECT * REPLACE (balance * {factor} AS balance) FROM ({LATEST})",
        changes=feed.table(),
    )
    check_table(place.path(), expected)


def test_one_stream_fans_out_to_tables_in_parallel(lab, sized):
    """Latest state and running total come from one pass; a kill harms neither."""
    feed = changes(3_000, keys_count=500)

    def prepare(place):
        place.create(COLUMNS, name="latest")
        place.create("customer_id BIGINT, balance BIGINT", name="totals")

    def sink(place):
        latest = UpsertSink(
            target=place.table("latest"),
            keys=("customer_id",),
            sequence="sequence",
            app_id=None,
        )
        totals = AddSink(
            target=place.table("totals"), keys=("customer_id",), app_id=None
        )
        return FanOut(
            sinks=(
                latest,
                lambda frame, n: totals(frame.select("customer_id", "balance"), n),
            ),
            app_id="fan-out",
        )

    query = Query(name="fan-out", feeds=(feed,), sink=sink, batches_count=3)
    sent = feed.table()
    for _, run in recoveries(
        lab, query, prepare=prepare, count=sized(full=6, smoke=2), seed=513
    ):
        check_table(run.place.path("latest"), oracle(LATEST, changes=sent))
        sums = oracle(SUMS.replace("amount", "balance"), orders=sent)
        check_table(run.place.path("totals"), sums)


def test_two_streams_share_one_table(lab):
    """Each MERGEs into its own partition; neither fails nor undoes the other."""
    halves = {city: changes(2_000, keys_count=400, seed=ord(city[0])) for city in "ab"}

    def only_in(city):
        def sink(place):
            return UpsertSink(
                target=place.table(),
                keys=("customer_id", "city"),
                sequence="sequence",
                app_id=f"stream-{city}",
                only=f"t.city = '{city}'",
            )

        def in_city(_place, frame):
            from pyspark.sql.functions import lit

            return frame.withColumn("city", lit(city))

        return Query(
            name=f"stream-{city}",
            feeds=(halves[city],),
            transform=in_city,
            sink=sink,
            batches_count=3,
        )

    place = lab.place()
    place.create(COLUMNS, clauses="PARTITIONED BY (city)")

    lab.run(only_in("a"), only_in("b"), place=place)

    latest_in = "(SELECT * REPLACE ('{0}' AS city) FROM ({1}))"
    both = " UNION ALL BY NAME ".join(
        latest_in.format(city, LATEST.replace("changes", city)) for city in halves
    )
    expected = oracle(both, **{city: feed.table() for city, feed in halves.items()})
    check_table(place.path(), expected)


ORDERS = Feed(
    dataset=Orders(customers=HotKeys(200, hot_count=5, hot_share=0.5)),
    seed=514,
    rows_count=4_000,
)
SUMS = "SELECT customer_id, sum(amount)::BIGINT AS amount FROM orders GROUP BY 1"


def totals(*, app_id):
    """Sums without a state store: the table is the state."""

    def amounts(_place, frame):
        return frame.select("customer_id", "amount")

    def sink(place):
        return AddSink(target=place.table(), keys=("customer_id",), app_id=app_id)

    return Query(
        name="totals",
        feeds=(ORDERS,),
        transform=amounts,
        sink=sink,
        batches_count=4,
    )


def totals_table(place):
    place.create("customer_id BIGINT, amount BIGINT")


@pytest.mark.parametrize("seed", [515, 516], ids="seed={}".format)
def test_sums_in_the_table_are_exact_under_random_kills(lab, sized, seed):
    """Each order counts once: a sum would show one that counted twice, or never."""
    expected = oracle(SUMS, orders=ORDERS.table())
    kills_count = sized(full=10, smoke=1)  # of each seed

    kills = []
    for kill, run in recoveries(
        lab,
        totals(app_id="totals"),
        prepare=totals_table,
        count=kills_count,
        seed=seed,
    ):
        check_table(run.place.path(), expected)
        kills.append(kill)

    assert len(kills) == kills_count
    assert any(kill.after_commit and kill.inside_batch for kill in kills)


def test_without_transaction_ids_a_kill_after_the_commit_counts_twice(lab):
    """The negative control: the same kills, with the protection removed."""
    expected = oracle(SUMS, orders=ORDERS.table())

    ((kill, run),) = recoveries(
        lab, totals(app_id=None), prepare=totals_table, count=1, seed=515
    )

    assert kill.after_commit
    assert kill.inside_batch
    with pytest.raises(AssertionError, match="not expected"):
        check_table(run.place.path(), expected)
