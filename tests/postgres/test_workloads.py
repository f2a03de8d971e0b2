"""Workloads do what they report, and a load that does not is caught."""

from __future__ import annotations

import pickle
import random

import pytest
from psycopg import sql

from harness.errors import ConfigError, TargetError, WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.keys import HotSet, Uniform, Zipf
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.seeding import SCHEMA, seed_table
from harness.postgres.server import ConnectArguments, attach
from harness.postgres.workloads import (
    FiveLookups,
    Held,
    PipelinedLookup,
    Pooled,
    PrimaryKeyLookup,
    RangeScan,
    ReadWriteMix,
    UserLookup,
    Witness,
)

WORKLOADS = [
    PrimaryKeyLookup,
    UserLookup,
    FiveLookups,
    RangeScan,
    ReadWriteMix,
    PipelinedLookup,
]


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
        teardown=workload.teardown,
    )


@pytest.mark.parametrize("workload_class", WORKLOADS)
def test_work_that_was_done_is_confirmed(workload_class, pool, table):
    workload = workload_class(pool, table)
    witness = Witness(workload)

    result = run(workload)

    assert (result.completed, result.failed) == (400, 0)
    assert witness.confirm(result).operations == 400 + 8 * 5


@pytest.mark.parametrize("direct", [False, True], ids=["cursor", "direct"])
@pytest.mark.parametrize("source_class", [Held, Pooled])
@pytest.mark.parametrize("workload_class", WORKLOADS[:-1])
def test_work_of_another_process_is_confirmed(
    workload_class, source_class, direct, postgres, table
):
    """What is sent to a process is a copy that signs for its work on the server."""
    config = PoolConfig(size_min=2, size_max=2)
    source = source_class(server=postgres, config=config)
    workload = workload_class(source, table, direct=direct)
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    sent.process_setup()
    result = run(sent, count=60, workers=2)
    sent.process_teardown()

    assert witness.confirm(result).operations == 60 + 2 * 5


def test_worker_that_did_not_sign_is_missed(postgres, table):
    workload = PrimaryKeyLookup(Held(server=postgres), table)
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))
    sent.teardown = lambda worker: worker.session.connection.close()

    result = run(sent, count=60, workers=2)

    with pytest.raises(WorkNotDoneError, match="signed for: 0, expected 70"):
        witness.confirm(result)


@pytest.fixture
def reader(start_own):
    """A server whose table a guest may read, and make nothing."""
    own = start_own()
    with connect(own.connect_arguments()) as connection:
        table = seed_table(connection, name="orders", rows=100)
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        connection.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO guest")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO guest")
    arguments = own.connect_arguments() | {"user": "guest", "password": "guest"}
    return attach(ConnectArguments(arguments), own.info), table


def test_role_that_may_only_read_is_enough_in_one_process(reader):
    server, table = reader
    workload = PrimaryKeyLookup(Held(server=server), table)
    witness = Witness(workload)

    assert witness.confirm(run(workload, count=50)).reads == 90


def test_role_that_may_only_read_cannot_sign_in_another(reader):
    server, table = reader
    workload = PrimaryKeyLookup(Held(server=server), table)
    Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    with pytest.raises(TargetError, match=r"'guest' cannot write: GRANT CREATE"):
        run(sent, count=50)


def test_password_is_in_no_repr_of_what_is_sent(postgres, table):
    workload = PrimaryKeyLookup(Held(server=postgres), table)
    password = postgres.connect_arguments()["password"]

    sent = pickle.loads(pickle.dumps(workload))

    assert password not in repr(sent) + repr(sent.source) + repr(sent.__dict__)


def test_mix_writes_about_its_share(pool, table):
    workload = ReadWriteMix(pool, table)
    witness = Witness(workload)

    tally = witness.confirm(run(workload, count=1_000))

    assert 0.12 < tally.writes / 1_040 < 0.28


def test_hot_rows_get_the_writes(pool, table, postgres):
    """The distribution that was asked for is the one that reaches the table."""
    keys = HotSet(count=table.rows, hot_share=0.01, hot_probability=0.9)
    workload = ReadWriteMix(pool, table, keys=keys, write_ratio=1.0)

    run(workload, count=1_000, warmup_count=0)

    hot = sql.SQL("SELECT sum(revision) FROM {} WHERE id <= 20")
    with connect(postgres.connect_arguments()) as connection:
        counted = connection.execute(hot.format(table.identifier)).fetchone()[0]
    assert 850 < counted < 950


@pytest.mark.parametrize("keys", [Uniform(count=2_001), Zipf(count=3_000)])
def test_keys_beyond_the_table_are_refused(keys, pool, table):
    with pytest.raises(ConfigError, match=r"keys.count must be <= 2000, got"):
        PrimaryKeyLookup(pool, table, keys=keys)


def test_second_load_on_the_same_table_is_counted_from_its_own_start(pool, table):
    workload = ReadWriteMix(pool, table)
    run(workload)
    witness = Witness(workload)

    witness.confirm(run(workload, count=100))


class RolledBackMix(ReadWriteMix):
    """The famous defect: every insert "succeeds", and not one row is there."""

    def write(self, session, key, amount_cents):
        with session.transaction(force_rollback=True):
            super().write(session, key, amount_cents)


class SkippingLookup(PrimaryKeyLookup):
    """Reports every operation and sends every second one."""

    def operate(self, session, worker):
        if worker.tally.reads % 2:
            worker.tally.reads += 1
            return
        super().operate(session, worker)


class DoubleLookup(PrimaryKeyLookup):
    """A hidden retry: the server does twice the work that is reported."""

    def read(self, session, query, key):
        super().read(session, query, key)
        super().read(session, query, key)


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
        (UncountedLookup, "answers the workers signed for: 0, expected 440"),
    ],
)
def test_work_that_was_not_done_is_caught(workload_class, complaint, pool, table):
    workload = workload_class(pool, table)
    witness = Witness(workload)

    result = run(workload)

    assert result.failed == 0, "the load itself saw nothing wrong"
    with pytest.raises(WorkNotDoneError, match=complaint):
        witness.confirm(result)


@pytest.mark.parametrize(
    "workload_class",
    [PrimaryKeyLookup, FiveLookups, RangeScan, PipelinedLookup],
)
def test_missing_row_is_a_failed_operation(workload_class, pool, table, postgres):
    """A lookup that finds nothing must not count as a fast success."""
    options = {"depth": 1} if workload_class is PipelinedLookup else {}
    options |= {"rows": 1} if workload_class is RangeScan else {}
    with connect(postgres.connect_arguments()) as connection:
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE id % 2 = 0").format(table.identifier)
        )
    workload = workload_class(pool, table, **options)
    witness = Witness(workload)

    result = run(workload, warmup_count=0)

    assert result.completed > 0
    assert set(result.errors) == {"WorkNotDoneError"}
    witness.confirm(result)


@pytest.mark.parametrize("workload_class", [PrimaryKeyLookup, UserLookup])
def test_workers_do_not_walk_the_keys_in_step(workload_class, pool, table):
    """The original's threads all asked for keys 0, 1, 2... at the same time."""
    asked = {0: [], 1: []}

    class Recording(workload_class):
        def read(self, session, query, key):
            asked[self.worker].append(key)
            super().read(session, query, key)

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
