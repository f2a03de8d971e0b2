"""Orders are joined with what is known of their customers: a table that may change."""

from __future__ import annotations

import dataclasses

import pytest

from harness.spark.datasets import Customers, Orders
from harness.spark.feed import Feed
from harness.spark.kills import recoveries
from harness.spark.lab import Query
from harness.spark.noise import UniformKeys, ZipfKeys
from harness.spark.proof import check_offsets, check_table, oracle

CUSTOMERS_COUNT = 500
# Every second customer is known: the others' orders must not vanish.
KNOWN = """
    SELECT customer_id, city FROM customers WHERE customer_id % 2 = 0
    QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY changed_at DESC) = 1
"""
JOINED = f"""
    SELECT orders.*, city FROM orders LEFT JOIN ({KNOWN}) AS known USING (customer_id)
"""
CUSTOMERS = Feed(
    dataset=Customers(customers=UniformKeys(CUSTOMERS_COUNT)), seed=571, rows_count=3000
)


def orders(rows_count):
    return Feed(
        dataset=Orders(customers=ZipfKeys(CUSTOMERS_COUNT)),
        seed=572,
        rows_count=rows_count,
        duplicates_share=0.05,
    )


def customers_table(place, customers=None):
    """Write what is known of the customers, a new version of the table each time."""
    known = (
        oracle(KNOWN, customers=CUSTOMERS.table()) if customers is None else customers
    )
    frame = place.spark.createDataFrame(known.to_pandas())
    frame.write.format("delta").mode("overwrite").save(place.path("customers").as_uri())


def with_city(place, frame):
    """Workload under test."""
    customers = place.spark.read.format("delta").load(place.path("customers").as_uri())
    return frame.join(customers, "customer_id", "left").select(*frame.columns, "city")


def enriched(feed, *, batches_count, transform=with_city):
    return Query(
        name="enriched",
        feeds=(feed,),
        transform=transform,
        batches_count=batches_count,
    )


@pytest.mark.benchmark(group="stream-dimension-join")
def test_each_order_gets_its_city_and_none_is_lost(lab, sized, record_stream):
    """A left join with a table: orders of unknown customers stay, without a city."""
    feed = orders(sized(full=400_000, smoke=30_000))
    place = lab.place()
    customers_table(place)

    run = lab.run(enriched(feed, batches_count=sized(full=10, smoke=3)), place=place)

    check_offsets(run.batches["enriched"], feed)
    expected = oracle(JOINED, orders=feed.table(), customers=CUSTOMERS.table())
    proven = check_table(place.path(), expected)
    record_stream(run, details={"checksum": str(proven)})


def test_changed_dimension_holds_for_the_micro_batches_after_it(lab):
    """A Delta table is read anew in each micro-batch: before the old, then the new."""
    first = orders(2_000)
    both = dataclasses.replace(first, rows_count=4_000)
    place = lab.place()
    customers_table(place)
    lab.run(enriched(first, batches_count=1), place=place)

    moved = oracle(
        f"SELECT customer_id, 'Nowhere' AS city FROM ({KNOWN})",
        customers=CUSTOMERS.table(),
    )
    customers_table(place, moved)
    lab.run(enriched(both, batches_count=2), place=place)

    expected = oracle(
        f"""
        {JOINED.replace("FROM orders", "FROM (FROM sent LIMIT 2000) AS orders")}
        UNION ALL
        SELECT orders.*, m.city
        FROM (FROM sent OFFSET 2000) AS orders LEFT JOIN moved AS m USING (customer_id)
        """,
        sent=both.table(),
        customers=CUSTOMERS.table(),
        moved=moved,
    )
    check_table(place.path(), expected)


def test_killed_join_with_a_table_repeats_nothing(lab, sized):
    """Stateless: what was written is not written again, what was not is."""
    feed = orders(6_000)
    expected = oracle(JOINED, orders=feed.table(), customers=CUSTOMERS.table())

    for _, run in recoveries(
        lab,
        enriched(feed, batches_count=3),
        prepare=customers_table,
        count=sized(full=4, smoke=1),
        seed=573,
    ):
        check_table(run.place.path(), expected)


def test_inner_join_with_a_table_loses_orders(lab):
    """The negative control: orders of unknown customers vanish, and that is seen."""

    def inner(place, frame):
        return with_city(place, frame).where("city IS NOT NULL")

    feed = orders(1_000)
    place = lab.place()
    customers_table(place)
    lab.run(enriched(feed, batches_count=1, transform=inner), place=place)

    with pytest.raises(AssertionError, match="missing"):
        check_table(
            place.path(),
            oracle(JOINED, orders=feed.table(), customers=CUSTOMERS.table()),
        )
