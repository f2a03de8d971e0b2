from __future__ import annotations

import pytest

from harness import ConfigError
from harness.spark.functions.columns import (
    append_ingestion_columns,
    camel_case_dataframe_columns,
    cast_array_and_struct_as_string,
    cast_array_as_string,
    snake_case_columns,
)
from harness.spark.functions.tables import (
    does_table_exist,
    drop_all_tables_and_clean_path,
    drop_table_and_clean_path,
    get_max_of_a_column,
    optimize_and_zorder_table,
    stream_delta_table,
)

pytestmark = pytest.mark.spark

SCHEMA = "spark_catalog.functions"


@pytest.fixture
def schema(spark):
    """An empty schema, gone afterwards."""
    spark.sql(f"CREATE SCHEMA {SCHEMA}")
    yield SCHEMA
    spark.sql(f"DROP SCHEMA {SCHEMA} CASCADE")


def columns_of(frame):
    return dict(frame.dtypes)


def test_ingestion_columns_are_added_and_never_overwrite(spark, tmp_path):
    (tmp_path / "a b.json").write_text('{"id": 1}')
    read = spark.read.schema("id INT").json(str(tmp_path))

    row = append_ingestion_columns(read, source_file=True).first()

    assert row["ingestion_time"].date() == row["ingestion_date"]
    assert row["source_file"].endswith("a%20b.json")
    with pytest.raises(ConfigError, match="ingestion_time"):
        append_ingestion_columns(append_ingestion_columns(read))


def test_columns_get_snake_case_names_and_collisions_are_refused(spark):
    frame = spark.createDataFrame([(1, 2)], "userID INT, orderDate INT")
    clash = spark.createDataFrame([(1, 2)], "userId INT, user_id INT")

    assert snake_case_columns(frame).columns == ["user_id", "order_date"]
    assert camel_case_dataframe_columns(frame).columns == ["user_id", "order_date"]
    with pytest.raises(ConfigError, match=r"\['userId', 'user_id'\].*user_id"):
        snake_case_columns(clash)


def test_nested_columns_become_text_that_says_all_they_said(spark):
    frame = spark.sql(
        "SELECT 1 AS id, array('a', NULL) AS tags, named_struct('x', 1, 'y', NULL) "
        "AS `a.struct`, map('k', array(1)) AS pairs, CAST(NULL AS ARRAY<INT>) AS none"
    )

    only_arrays = cast_array_as_string(frame)
    everything = cast_array_and_struct_as_string(frame)

    assert columns_of(only_arrays)["tags"] == "string"
    assert columns_of(only_arrays)["a.struct"].startswith("struct")
    assert tuple(everything.first()) == (
        1,
        '["a",null]',
        '{"x":1,"y":null}',
        '{"k":[1]}',
        None,
    )


def test_largest_value_of_a_column_is_none_where_there_is_none(spark):
    frame = spark.createDataFrame([(3,), (7,), (None,)], "`a b` INT")

    assert get_max_of_a_column(frame, "a b") == 7
    assert get_max_of_a_column(frame.where("`a b` > 9"), "a b") is None
    with pytest.raises(ConfigError, match=r"\['a b'\], got 'c'"):
        get_max_of_a_column(frame, "c")


def test_absent_table_does_not_exist_and_a_bad_name_is_no_answer(spark, schema):
    spark.sql(f"CREATE TABLE {schema}.there (id INT) USING delta")

    assert does_table_exist(spark, f"{schema}.there")
    assert not does_table_exist(spark, f"{schema}.absent")
    with pytest.raises(ConfigError, match=r"catalog\.schema\.table"):
        does_table_exist(spark, "there")


def test_optimize_compacts_and_keeps_the_rows(spark, schema):
    name = f"{schema}.layout"
    spark.range(100).repartition(4).write.format("delta").saveAsTable(name)

    metrics = optimize_and_zorder_table(spark, name, ["id"])

    assert metrics["numFilesRemoved"] == 4
    assert metrics["numFilesAdded"] == 1
    assert spark.table(name).count() == 100


def test_dropped_external_table_leaves_no_files(spark, schema, tmp_path):
    place = tmp_path / "external table"
    spark.sql(f"CREATE TABLE {schema}.external (id INT) USING delta LOCATION '{place}'")
    assert (place / "_delta_log").is_dir()

    drop_table_and_clean_path(spark, f"{schema}.external")

    assert not place.exists()
    assert not does_table_exist(spark, f"{schema}.external")
    drop_table_and_clean_path(spark, f"{schema}.external")  # gone already: no error


def test_folder_that_is_no_delta_table_is_never_removed(spark, schema, tmp_path):
    place = tmp_path / "documents"
    spark.range(1).write.parquet(str(place))
    spark.sql(f"CREATE TABLE {schema}.parquet USING parquet LOCATION '{place}'")

    with pytest.raises(ConfigError, match=r"documents.*nothing was dropped"):
        drop_table_and_clean_path(spark, f"{schema}.parquet")

    assert place.exists()
    assert does_table_exist(spark, f"{schema}.parquet")


def test_all_tables_of_a_schema_are_dropped_and_views_left(spark, schema):
    for name in ("one", "two"):
        spark.sql(f"CREATE TABLE {schema}.{name} (id INT) USING delta")
    spark.sql(f"CREATE VIEW {schema}.looks AS SELECT 1 AS id")

    dropped = drop_all_tables_and_clean_path(spark, schema)

    assert sorted(dropped) == [f"{schema}.`one`", f"{schema}.`two`"]
    left = [table.name for table in spark.catalog.listTables(schema)]
    assert left == ["looks"]


def test_stream_between_tables_goes_on_where_it_ended(spark, schema, tmp_path):
    source, target = f"{schema}.events", f"{schema}.copies"
    spark.sql(f"CREATE TABLE {source} (id BIGINT) USING delta")

    for first in (0, 5):
        spark.range(first, first + 5).write.insertInto(source)
        stream_delta_table(
            spark, source=source, target=target, checkpoint=str(tmp_path / "c")
        ).awaitTermination()

    assert sorted(row["id"] for row in spark.table(target).collect()) == list(range(10))
