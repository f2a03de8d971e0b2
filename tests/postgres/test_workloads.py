"""Workloads do what they report, and a load that does not is caught."""

from __future__ import annotations

import random

import pytest
from psycopg import sql

from harness.errors import WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.seeding import SCHEMA, seed_table
from harness.postgres.workloads import (
    PrimaryKeyLookup,
    ReadWriteMix,
    UserLookup,
    Witness,
)

WORKLOADS = [PrimaryKeyLookup, UserLookup, ReadWriteMix]


@pytest.fixture
def table(postgres, worker_id):
    name = f"workloads_{worker_id}"
    with connect(postgres.connect_arguments()) as connection:
        yield seed_table(connection, name=name, rows=2_000)
        connection.execute(
            sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, name))
        )


@pytest.fixture
def pool(postgres):
    with PsycopgPool(postgres, PoolConfig(size_min=4, size_max=4)) as pool:
        yield pool


def run(workload, *, count=400, workers=8, warmup_count=5):
    return run_closed_loop(
        workload,
        workers=workers,
        count=count,
        warmup_count=warmup_count,
        setup=workload.setup,
    )


@pytest.mark.parametrize("workload_class", WORKLOADS)
def test_work_that_was_done_is_confirmed(workload_class, pool, table):
    workload = workload_class(pool, table)
    witness = Witness(workload)

    result = run(workload)

    assert (result.completed, result.failed) == (400, 0)
    witness.confirm(result)
    assert workload.tally.reads + workload.tally.writes == 400 + 8 * 5


def test_mix_writes_about_its_share(pool, table):
    workload = ReadWriteMix(pool, table)

    run(workload, count=1_000)

    assert 0.12 < workload.tally.writes / 1_040 < 0.28


def test_second_load_on_the_same_table_is_counted_from_its_own_start(pool, table):
    workload = ReadWriteMix(pool, table)
    run(workload)
    witness = Witness(workload)

    witness.confirm(run(workload, count=100))


class RolledBackMix(ReadWriteMix):
    """The famous defect: every insert "succeeds", and not one row is there."""

    def write(self, connection, key, amount_cents):
        with connection.transaction(force_rollback=True):
            super().write(connection, key, amount_cents)


class SkippingLookup(PrimaryKeyLookup):
    """Reports every operation and sends every second one."""

    def __call__(self, context):
        if context.state.reads % 2:
            context.acquired()
            context.state.reads += 1
            return
        super().__call__(context)


class DoubleLookup(PrimaryKeyLookup):
    """A hidden retry: the server does twice the work that is reported."""

    def read(self, connection, query, key):
        super().read(connection, query, key)
        super().read(connection, query, key)


class UncountedLookup(PrimaryKeyLookup):
    """Returns without an answer, which the load takes for success."""

    def __call__(self, context):
        context.acquired()


@pytest.mark.parametrize(
    ("workload_class", "complaint"),
    [
        (RolledBackMix, "updates committed: 0, expected "),
        (SkippingLookup, r"table scans counted by the server: 2\d\d, expected 440"),
        (DoubleLookup, "table scans counted by the server: 880, expected 440"),
        (UncountedLookup, "answers with the right row: 0, expected 440"),
    ],
)
def test_work_that_was_not_done_is_caught(workload_class, complaint, pool, table):
    workload = workload_class(pool, table)
    witness = Witness(workload)

    result = run(workload)

    assert result.failed == 0, "the load itself saw nothing wrong"
    with pytest.raises(WorkNotDoneError, match=complaint):
        witness.confirm(result)


def test_missing_row_is_a_failed_operation(pool, table, postgres):
    """A lookup that finds nothing must not count as a fast success."""
    with connect(postgres.connect_arguments()) as connection:
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE id % 2 = 0").format(table.identifier)
        )
    workload = PrimaryKeyLookup(pool, table)
    witness = Witness(workload)

    result = run(workload, warmup_count=0)

    assert result.completed > 0
    assert set(result.errors) == {"WorkNotDoneError"}
    witness.confirm(result)


@pytest.mark.parametrize("workload_class", WORKLOADS)
def test_workers_do_not_walk_the_keys_in_step(workload_class, pool, table):
    """The original's threads all asked for keys 0, 1, 2... at the same time."""
    asked = {0: [], 1: []}

    class Recording(workload_class):
        def read(self, connection, query, key):
            asked[self.worker].append(key)
            super().read(connection, query, key)

    class Context:
        def __init__(self, worker, state):
            self.random = random.Random(worker)
            self.state = state

        def acquired(self):
            pass

    workload = Recording(pool, table)
    for worker in (0, 1):
        workload.worker = worker
        context = Context(worker, workload.setup(worker))
        for _ in range(300):
            workload(context)

    assert asked[0] != asked[1]
    for keys in asked.values():
        assert len(set(keys)) > 150, "keys are spread"
        low, high = (0, 1_999) if workload_class is UserLookup else (1, 2_000)
        assert low <= min(keys)
        assert max(keys) <= high
