"""Seeding: known contents, used again when right, never in the way of others."""

from __future__ import annotations

import pytest
from psycopg import sql

from harness.errors import ConfigError, TargetError
from harness.postgres.connect import connect
from harness.postgres.seeding import SCHEMA, seed_table
from harness.postgres.server import ConnectArguments


@pytest.fixture
def connection(postgres):
    with connect(postgres.connect_arguments()) as connection:
        yield connection


@pytest.fixture
def name(connection, request, worker_id):
    """A table name of this test's own, dropped afterwards."""
    digest = abs(hash(request.node.nodeid)) % 10**8
    name = f"seeding_{worker_id}_{digest}"
    yield name
    connection.execute(
        sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, name))
    )


def rows_of(connection, table, columns="*", tail=""):
    query = sql.SQL("SELECT {} FROM {} {}").format(
        sql.SQL(columns), table.identifier, sql.SQL(tail)
    )
    return connection.execute(query).fetchall()


def oid_of(connection, name):
    found = connection.execute("SELECT to_regclass(%s)::oid", [f"{SCHEMA}.{name}"])
    return found.fetchone()[0]


def test_contents_follow_from_the_row_number(connection, name):
    table = seed_table(connection, name=name, rows=12_000, batch_size=5_000)

    rows = rows_of(
        connection, table, "id, user_id, product_id, category, revision", "ORDER BY id"
    )
    assert rows == [
        (i + 1, i % 10_000, i % 1_000, f"category_{i % 20}", 0) for i in range(12_000)
    ]
    assert table.users == 10_000


def test_every_value_is_what_its_row_number_says(connection, name):
    """Past the row after which values come round; written out anew, by the server."""
    rows = 100_000 + 1_234
    table = seed_table(connection, name=name, rows=rows, batch_size=7_000)

    differing = connection.execute(
        sql.SQL(
            "SELECT count(*) FROM {} FULL JOIN (SELECT i + 1 AS id, "
            "i %% 10000 AS user_id, i %% 1000 AS product_id, "
            "'category_' || i %% 20 AS category, "
            "(i::bigint * 7919 %% 100000 / 100.0)::numeric(10, 2) AS amount, "
            "(ARRAY['pending', 'active', 'completed', 'cancelled'])[i %% 4 + 1] "
            "AS status, '2026-01-01 00:00:00+00'::timestamptz + i * '1 s'::interval "
            "AS at FROM generate_series(0, %s - 1) AS i) AS wanted USING (id) "
            "WHERE (wanted.user_id, wanted.product_id, wanted.category, "
            "wanted.amount, wanted.status, wanted.at, wanted.at, 0) "
            "IS DISTINCT FROM ({}.user_id, {}.product_id, {}.category, {}.amount, "
            "{}.status, {}.created_at, {}.updated_at, {}.revision)"
        ).format(*[table.identifier] * 9),
        (rows,),
    )
    assert differing.fetchone() == (0,)
    amounts = rows_of(connection, table, "min(scale(amount)), max(scale(amount))")
    assert amounts == [(2, 2)]


def test_a_row_inserted_later_gets_the_next_id(connection, name):
    table = seed_table(connection, name=name, rows=300)

    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {} (user_id, product_id, category, amount, status, "
            "created_at, updated_at) VALUES (1, 1, 'x', 1, 'active', now(), now()) "
            "RETURNING id"
        ).format(table.identifier)
    )
    assert inserted.fetchone() == (301,)


def test_every_user_a_lookup_may_draw_exists(connection, name):
    table = seed_table(connection, name=name, rows=300)

    users = rows_of(connection, table, "min(user_id), max(user_id), count(*)")
    assert users == [(0, table.users - 1, 300)]


def test_progress_is_told_after_every_batch(connection, name):
    told = []

    seed_table(
        connection, name=name, rows=2_500, batch_size=1_000, on_progress=told.append
    )

    assert told == [1_000, 2_000, 2_500]


def test_table_that_fits_is_used_again(connection, name):
    seed_table(connection, name=name, rows=500)
    before = oid_of(connection, name)

    seed_table(connection, name=name, rows=500)

    assert oid_of(connection, name) == before


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM {} WHERE id <= 5", "COMMENT ON TABLE {} IS 'lakegauge seed 0: 500'"],
    ids=["rows missing", "other version"],
)
def test_table_of_ours_that_does_not_fit_is_replaced(connection, name, damage):
    table = seed_table(connection, name=name, rows=500)
    connection.execute(sql.SQL(damage).format(table.identifier))

    seed_table(connection, name=name, rows=500)

    assert rows_of(connection, table, "count(*)") == [(500,)]


def test_other_row_count_replaces_the_table(connection, name):
    seed_table(connection, name=name, rows=500)

    table = seed_table(connection, name=name, rows=700)

    assert rows_of(connection, table, "count(*)") == [(700,)]


@pytest.mark.parametrize("comment", [None, "orders of the shop"])
def test_table_that_is_not_ours_is_never_touched(connection, name, comment):
    table = sql.Identifier(SCHEMA, name)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.execute(sql.SQL("CREATE TABLE {} AS SELECT 42 AS x").format(table))
    if comment:
        connection.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(comment))
        )

    with pytest.raises(ConfigError, match="BENCHMARK_TABLE_NAME") as caught:
        seed_table(connection, name=name, rows=10)

    assert "choose another name" in str(caught.value)
    found = connection.execute(sql.SQL("SELECT x FROM {}").format(table))
    assert found.fetchall() == [(42,)]


def test_interrupted_seeding_leaves_nothing_behind(connection, name):
    def interrupt(_rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seed_table(connection, name=name, rows=500, on_progress=interrupt)

    assert oid_of(connection, name) is None


def test_role_without_the_right_is_told_which_one(connection, postgres, worker_id):
    role = f"reader_{worker_id}"
    connection.execute(f"DROP ROLE IF EXISTS {role}")
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    arguments = {**postgres.connect_arguments(), "user": role, "password": "pw"}

    with (
        connect(ConnectArguments(arguments)) as reader,
        pytest.raises(TargetError, match=f"role '{role}' cannot seed"),
    ):
        seed_table(reader, name="not_allowed", rows=10)


@pytest.mark.parametrize("name", ['x"; DROP TABLE y; --', "Übung", "select"])
def test_any_name_is_quoted(connection, name):
    """Settings refuse such names; the SQL does not rely on it."""
    table = seed_table(connection, name=name, rows=10)

    assert rows_of(connection, table, "count(*)") == [(10,)]
    connection.execute(sql.SQL("DROP TABLE {}").format(table.identifier))
