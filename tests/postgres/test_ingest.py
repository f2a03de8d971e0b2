"""Rows come in as reported, whatever way they take; rows that do not are missed."""

from __future__ import annotations

import pickle
from functools import partial

import psycopg
import pytest

from harness.errors import ConfigError, WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.pool import PoolConfig
from harness.postgres.workloads import (
    CopyRows,
    Held,
    InsertBatch,
    InsertPipeline,
    InsertRows,
    Pooled,
    UpsertRows,
    Witness,
    make_ingest_table,
)
from harness.postgres.workloads.ingest import INGEST

WAYS = {
    "insert": (InsertRows, 1),
    "insert-direct": (partial(InsertRows, direct=True), 1),
    "upsert": (UpsertRows, 1),
    "upsert-direct": (partial(UpsertRows, direct=True), 1),
    "batch": (partial(InsertBatch, rows=7), 7),
    "pipeline": (partial(InsertPipeline, rows=7), 7),
    "copy": (partial(CopyRows, rows=50), 50),
}


@pytest.fixture(scope="module")
def server(make_settings):
    server = start_embedded(make_settings(), reason="for a test")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def table(server):
    with connect(server.connect_arguments()) as connection:
        make_ingest_table(connection)
    return server


def run(workload, *, count=30, workers=2):
    result = run_closed_loop(
        workload,
        workers=workers,
        count=count,
        setup=workload.setup,
        teardown=workload.teardown,
    )
    workload.process_teardown()
    return result


@pytest.mark.parametrize("source_class", [Held, Pooled])
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_confirmed(way, source_class, server):
    make, rows = WAYS[way]
    config = PoolConfig(size_min=2, size_max=2)
    workload = make(source_class(server=server, config=config))
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    result = run(sent)

    assert (result.completed, result.examples) == (30, {})
    assert witness.confirm(result).inserts == 30 * rows


def test_upserts_of_the_same_rows_replace_them(server):
    workload = UpsertRows(Held(server=server))
    witness = Witness(workload)
    workload.keys = type(workload.keys)(count=3)

    witness.confirm(run(workload))

    with connect(server.connect_arguments()) as connection:
        rows = connection.execute(
            f"SELECT count(*), sum(revision) FROM {INGEST}"
        ).fetchone()
    assert rows == (3, 27)


class HalfBatch(InsertBatch):
    """Reports the whole batch and sends the first half."""

    def send(self, session, rows):
        return 2 * super().send(session, rows[: len(rows) // 2])


class RolledBackCopy(CopyRows):
    def send(self, session, rows):
        with session.transaction(force_rollback=True):
            return super().send(session, rows)


class GarbledPipeline(InsertPipeline):
    """The right number of rows, with other values."""

    def send(self, session, rows):
        return super().send(session, [(w, value + 1, text) for w, value, text in rows])


class IdleUpsert(UpsertRows):
    def operate(self, _session, worker):
        worker.tally.inserts += 1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (partial(HalfBatch, rows=6), "rows committed to ingest: 90, expected 180"),
        (partial(RolledBackCopy, rows=6), "rows committed to ingest: 0, expected 180"),
        (partial(GarbledPipeline, rows=6), r"sum of their values: \d+, expected \d+"),
        (IdleUpsert, "rows and revisions committed to ingest: 0, expected 30"),
    ],
)
def test_rows_that_are_not_there_are_missed(make, complaint, server):
    workload = make(Held(server=server))
    witness = Witness(workload)

    result = run(workload)

    assert result.failed == 0, "the load itself saw nothing wrong"
    with pytest.raises(WorkNotDoneError, match=complaint):
        witness.confirm(result)


def test_batch_that_breaks_leaves_no_row(server):
    """One bad row of a batch takes the others with it; the proof knows."""
    with connect(server.connect_arguments()) as connection:
        connection.execute(f"ALTER TABLE {INGEST} ADD CHECK (value % 10 <> 0)")
    workload = InsertBatch(Held(server=server), rows=5)
    witness = Witness(workload)

    result = run(workload)

    assert set(result.errors) == {psycopg.errors.CheckViolation.__name__}
    assert 3 < result.completed < 30
    witness.confirm(result)


def test_no_rows_are_refused(server):
    with pytest.raises(ConfigError, match="rows must be >= 1, got 0"):
        CopyRows(Held(server=server), rows=0)


def test_somebody_elses_table_is_left_alone(server):
    with connect(server.connect_arguments()) as connection:
        connection.execute(f"COMMENT ON TABLE {INGEST} IS 'mine'")
        with pytest.raises(ConfigError, match="ingest exists and was not made"):
            make_ingest_table(connection)
        connection.execute(f"DROP TABLE {INGEST}")
