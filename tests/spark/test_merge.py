from __future__ import annotations

import pytest

from harness.spark.merge import APP_ID_CONF, VERSION_CONF, AddSink, UpsertSink

pytestmark = pytest.mark.spark


@pytest.fixture
def table(spark, tmp_path):
    """An empty Delta table with a key, a sequence and a-value, named in SQL."""
    name = f"delta.`{tmp_path / 'table'}`"
    spark.sql(f"CREATE TABLE {name} (id INT, seq INT, `a-value` STRING) USING delta")
    return name


def frame_of(spark, *rows):
    return spark.createDataFrame(list(rows), "id INT, seq INT, `a-value` STRING")


def rows_of(spark, table):
    return sorted(tuple(row) for row in spark.sql(f"SELECT * FROM {table}").collect())


def version_of(spark, table):
    return spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1").first()["version"]


def test_latest_row_of_a_key_wins_within_a_batch(spark, table):
    sink = UpsertSink(target=table, keys=("id",), app_id="a", sequence="seq")

    sink(frame_of(spark, (1, 2, "new"), (1, 1, "old"), (2, 1, "other")), 0)

    assert rows_of(spark, table) == [(1, 2, "new"), (2, 1, "other")]


def test_older_row_that_comes_later_changes_nothing(spark, table):
    sink = UpsertSink(target=table, keys=("id",), app_id="a", sequence="seq")

    sink(frame_of(spark, (1, 2, "new")), 0)
    sink(frame_of(spark, (1, 1, "late")), 1)

    assert rows_of(spark, table) == [(1, 2, "new")]


def test_batch_that_comes_again_is_skipped_without_a_commit(spark, table):
    sink = AddSink(target=table, keys=("id", "a-value"), app_id="writer")
    batch = frame_of(spark, (1, 5, "x"), (1, 6, "x"))

    sink(batch, 0)
    version = version_of(spark, table)
    sink(batch, 0)

    assert rows_of(spark, table) == [(1, 11, "x")]
    assert version_of(spark, table) == version


def test_next_batch_is_not_skipped(spark, table):
    sink = AddSink(target=table, keys=("id", "a-value"), app_id="writer")

    sink(frame_of(spark, (1, 5, "x")), 0)
    sink(frame_of(spark, (1, 6, "x")), 1)

    assert rows_of(spark, table) == [(1, 11, "x")]


def test_two_writers_of_one_table_do_not_skip_each_other(spark, table):
    batch = frame_of(spark, (1, 5, "x"))

    for app_id in ("first", "second"):
        AddSink(target=table, keys=("id", "a-value"), app_id=app_id)(batch, 0)

    assert rows_of(spark, table) == [(1, 10, "x")]


def test_session_is_left_as_it_was_after_a_failure_too(spark):
    """Left behind, the ids would silently swallow the next write of the session."""
    sink = UpsertSink(target="no_such_table", keys=("id",), app_id="a", sequence="seq")
    views = spark.catalog.listTables()

    with pytest.raises(Exception, match="TABLE_OR_VIEW_NOT_FOUND"):
        sink(frame_of(spark, (1, 1, "x")), 0)

    assert spark.conf.get(APP_ID_CONF, None) is None
    assert spark.conf.get(VERSION_CONF, None) is None
    assert spark.catalog.listTables() == views
