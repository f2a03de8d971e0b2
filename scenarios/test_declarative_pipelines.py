"""One pipeline file, run by open-source Spark Declarative Pipelines over Delta.

It says what it would say on Databricks; what open source lacks is put on top of it
(harness/spark/pipelines/dialect.py), and counted here against plain Python.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness import SparkError
from harness.spark.pipelines.local import run_pipeline, violation_counts

pytestmark = pytest.mark.needs("pipelines")

DATABASE = "pipelines"
SEED = 20_260_601

# {database} is filled in by `definitions`: a pipeline file names its schema itself.
PIPELINE = """
from pyspark import pipelines as dp
from pyspark.sql import functions as f


@dp.table
@dp.expect("customer is known", "customer IS NOT NULL")
@dp.expect_or_drop("amount is positive", "amount > 0")
def bronze():
    return spark.readStream.table("{database}.changes")


@dp.materialized_view
def totals():
    rows = spark.read.table("bronze")
    return rows.groupBy("customer").agg(f.sum("amount").alias("amount"))


dp.create_streaming_table("everything")


@dp.append_flow(target="everything", name="odd_rows")
def odd():
    return spark.readStream.table("{database}.changes").where("seq % 2 = 1")


@dp.append_flow(target="everything", name="even_rows")
def even():
    return spark.readStream.table("{database}.changes").where("seq % 2 = 0")


dp.create_streaming_table("history")
dp.create_auto_cdc_flow(
    target="history",
    source="{database}.changes",
    keys=["customer"],
    sequence_by="seq",
    apply_as_deletes="amount = 0",
    stored_as_scd_type=2,
)
"""

STRICT = """
from pyspark import pipelines as dp


@dp.table
@dp.expect_or_fail("amount is positive", "amount > 0")
def strict():
    return spark.readStream.table("{database}.changes")
"""

PARQUET = """
from pyspark import pipelines as dp

dp.create_streaming_table("halves", format="parquet")


@dp.append_flow(target="halves", name="odd_halves")
def odd():
    return spark.readStream.table("{database}.changes").where("seq % 2 = 1")


@dp.append_flow(target="halves", name="even_halves")
def even():
    return spark.readStream.table("{database}.changes").where("seq % 2 = 0")
"""

NAMED_DELTA = """
from pyspark import pipelines as dp


@dp.table(format="delta")
def named():
    return spark.readStream.table("{database}.changes")
"""


@pytest.fixture
def database(spark):
    """A schema with an empty table of changes, gone afterwards."""
    spark.sql(f"CREATE SCHEMA {DATABASE}")
    spark.sql(
        f"CREATE TABLE {DATABASE}.changes (seq BIGINT, customer STRING, amount INT) "
        "USING delta"
    )
    yield DATABASE
    spark.sql(f"DROP SCHEMA {DATABASE} CASCADE")


@pytest.fixture
def run(spark, database, tmp_path):
    """Return a function that runs a pipeline's text once."""

    def run_once(text, **options):
        file = Path(tmp_path / "definitions.py")
        file.write_text(text.format(database=database))
        storage = (tmp_path / "storage").as_uri()
        return run_pipeline(
            spark, [file], storage=storage, database=database, **options
        )

    return run_once


def changes(first, count):
    """Return changes of few customers: some unknown, some deleted, some negative."""
    random = np.random.default_rng([SEED, first])
    names = [None, *"abcdefgh"]
    return [
        (seq, names[random.integers(len(names))], int(random.integers(-2, 20)))
        for seq in range(first, first + count)
    ]


def add(spark, database, rows):
    schema = "seq BIGINT, customer STRING, amount INT"
    spark.createDataFrame(rows, schema).writeTo(f"{database}.changes").append()


def rows_of(spark, table):
    return Counter(tuple(row) for row in spark.read.table(table).collect())


def history_of(rows):
    """Return the versions of each customer: an independent model of SCD type 2."""
    expected = Counter()
    by_customer = {}
    for row in sorted(rows):
        by_customer.setdefault(row[1], []).append(row)
    for versions in by_customer.values():
        ends = [row[0] for row in versions[1:]] + [None]
        for row, end in zip(versions, ends, strict=True):
            if row[2] != 0:
                expected[(*row, row[0], end)] += 1
    return expected


def check_datasets(spark, database, rows):
    """Compare every dataset with what plain Python makes of the changes."""
    kept = [row for row in rows if row[2] > 0]
    totals = Counter()
    for _, customer, amount in kept:
        totals[customer] += amount
    broken = {
        "customer is known": sum(row[1] is None for row in rows),
        "amount is positive": sum(row[2] <= 0 for row in rows),
    }
    assert all(broken.values()), "the data break no expectation: nothing is shown"

    assert rows_of(spark, f"{database}.bronze") == Counter(kept)
    assert rows_of(spark, f"{database}.totals") == Counter(totals.items())
    assert rows_of(spark, f"{database}.everything") == Counter(rows)
    assert rows_of(spark, f"{database}.history") == history_of(rows)
    assert violation_counts(spark, f"{database}.bronze") == broken


def test_second_run_takes_only_what_is_new_and_a_full_refresh_changes_nothing(
    spark, database, run, sized
):
    """Every hop conserves its rows, two flows into one table lose none."""
    count = sized(full=2000, smoke=200)
    rows = changes(0, count)
    add(spark, database, rows)

    first = run(PIPELINE)
    check_datasets(spark, database, rows)

    more = changes(count, count // 10)
    add(spark, database, more)
    run(PIPELINE)
    check_datasets(spark, database, rows + more)

    run(PIPELINE, full_refresh=True)
    check_datasets(spark, database, rows + more)
    flows = {name.rpartition(".")[2] for name in first.flow_s}
    assert {"bronze", "totals", "odd_rows", "even_rows", "history"} <= flows


def test_dry_run_finds_a_missing_table_and_writes_nothing(spark, database, run):
    run(PIPELINE, dry=True)

    assert not spark.catalog.tableExists(f"{database}.bronze")
    with pytest.raises(SparkError, match="nowhere"):
        run(PIPELINE.replace('"bronze"', '"nowhere"'), dry=True)


def test_expectation_that_must_hold_fails_the_run_by_name(spark, database, run):
    add(spark, database, [(1, "a", 5), (2, "b", -1)])

    with pytest.raises(SparkError, match="amount is positive"):
        run(STRICT)

    assert (2, "b", -1) not in rows_of(spark, f"{database}.strict")


def test_two_flows_into_a_parquet_table_never_pass_silently(spark, database, run):
    """They race for one log: a flow fails, is retried, and half of its rows are gone.

    Spark calls such a run completed. Ours is either whole or an error.
    """
    rows = changes(0, 200)
    add(spark, database, rows)

    try:
        run(PARQUET)
    except SparkError as error:
        assert "flow of the pipeline failed" in str(error)  # noqa: PT017 - or whole
    else:
        assert rows_of(spark, f"{database}.halves") == Counter(rows)


def test_naming_delta_in_the_file_breaks_the_second_run(spark, database, run):
    """The reason why the tables are Delta's by the run's default instead."""
    add(spark, database, [(1, "a", 5)])
    run(NAMED_DELTA)

    with pytest.raises(SparkError, match="DELTA_CANNOT_CHANGE_PROVIDER"):
        run(NAMED_DELTA)
