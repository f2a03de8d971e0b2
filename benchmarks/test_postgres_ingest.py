"""How fast do rows come in, by the way they take?

An operation is one commit; `rows_per_s` is what to compare across ways.
"""

from __future__ import annotations

import pytest

ROWS = {"insert": 1, "upsert": 1, "batch": 100, "pipeline": 100, "copy": 1000}


@pytest.fixture
def ingest(postgres):
    """An empty table for each case."""
    from harness.postgres.connect import connect
    from harness.postgres.workloads import make_ingest_table

    with connect(postgres.connect_arguments()) as connection:
        make_ingest_table(connection)


@pytest.mark.benchmark(group="postgres-ingest")
@pytest.mark.usefixtures("ingest")
@pytest.mark.parametrize("way", ROWS, ids=lambda way: f"way={way}-rows={ROWS[way]:04d}")
def test_ingest(way, postgres, measure_workload, sized):
    """Closed loop, 4 callers in 2 processes; rows and their sum are checked."""
    from harness.postgres import workloads

    source = workloads.Held(server=postgres)
    rows = ROWS[way]
    workload = {
        "insert": lambda: workloads.InsertRows(source),
        "upsert": lambda: workloads.UpsertRows(source),
        "batch": lambda: workloads.InsertBatch(source, rows=rows),
        "pipeline": lambda: workloads.InsertPipeline(source, rows=rows),
        "copy": lambda: workloads.CopyRows(source, rows=rows),
    }[way]()

    measure_workload(
        workload,
        threads=4,
        processes=sized(full=2, smoke=1),
        duration_s=sized(full=4.0, smoke=0.6),
        rows_per_operation=rows,
    )
