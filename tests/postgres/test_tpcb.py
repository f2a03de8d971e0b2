"""pgbench's transaction keeps its books, and one that does not is caught."""

from __future__ import annotations

import pickle

import psycopg
import pytest

from harness.errors import ConfigError, WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.pgbench_tables import ACCOUNTS, HISTORY, seed_pgbench
from harness.postgres.pool import PoolConfig
from harness.postgres.workloads import AccountLookup, Held, Pooled, TpcB, Witness
from harness.postgres.workloads.tpcb import UPDATE_BRANCH

PATHS = {"cursor": {}, "direct": {"direct": True}, "pipeline": {"pipelined": True}}


@pytest.fixture(scope="module")
def server(make_settings):
    """A server of this module's own: the tables' names are pgbench's, not ours."""
    server = start_embedded(make_settings(), reason="for a test")
    yield server
    server.close()


@pytest.fixture
def tables(server):
    with connect(server.connect_arguments()) as connection:
        yield seed_pgbench(connection, scale=1)
        connection.execute("DROP SCHEMA lakegauge CASCADE")


def run(workload, *, count=100, workers=2):
    result = run_closed_loop(
        workload,
        workers=workers,
        count=count,
        warmup_count=5,
        setup=workload.setup,
        teardown=workload.teardown,
    )
    workload.process_teardown()
    return result


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("source_class", [Held, Pooled])
def test_transactions_are_confirmed(source_class, path, server, tables):
    config = PoolConfig(size_min=2, size_max=2)
    workload = TpcB(source_class(server=server, config=config), tables, **PATHS[path])
    witness = Witness(workload)

    result = run(workload)

    assert (result.completed, result.errors) == (100, {})
    tally = witness.confirm(result)
    with connect(server.connect_arguments()) as connection:
        rows, moved = connection.execute(
            f"SELECT count(*), sum(delta) FROM {HISTORY}"
        ).fetchone()
        touched = connection.execute(
            f"SELECT count(*) FROM {ACCOUNTS} WHERE abalance <> 0"
        ).fetchone()[0]
    assert (rows, moved) == (110, tally.amount)
    assert 100 <= touched <= 110


@pytest.mark.parametrize("direct", [False, True], ids=["cursor", "direct"])
def test_account_lookups_are_confirmed(direct, server, tables):
    workload = AccountLookup(Held(server=server), tables, direct=direct)
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    assert witness.confirm(run(sent)).reads == 110


class ForgetfulTpcB(TpcB):
    """Leaves the branch out: four statements are faster than five."""

    def _one_by_one(self, session, statements):
        kept = [pair for pair in statements if pair[0] != UPDATE_BRANCH]
        return [*super()._one_by_one(session, kept), 1]


class RolledBackTpcB(TpcB):
    """Commits nothing: everything is faster without a flush."""

    def _one_by_one(self, session, statements):
        session.execute("BEGIN")
        counts = [session.execute(*pair).rowcount for pair in statements]
        session.execute("ROLLBACK")
        return counts


class SplitTpcB(TpcB):
    """Commits each statement by itself, and half of them never."""

    def _one_by_one(self, session, statements):
        return [session.execute(*pair).rowcount for pair in statements[:3]] + [1, 1]


class MisreadingTpcB(TpcB):
    """Counts what it has not moved."""

    def operate(self, session, worker):
        super().operate(session, worker)
        worker.tally.amount += 1


class IdleLookup(AccountLookup):
    """Sends nothing."""

    def operate(self, _session, worker):
        worker.tally.reads += 1


@pytest.mark.parametrize(
    ("workload_class", "complaint"),
    [
        (ForgetfulTpcB, r"sum\(bbalance\): 0, expected .*balances do not agree"),
        (RolledBackTpcB, "rows committed to pgbench_history: 0, expected 110"),
        (SplitTpcB, "the balances do not agree"),
        (MisreadingTpcB, r"sum\(abalance\): -?\d+, expected -?\d+"),
        (IdleLookup, "scans of pgbench_accounts .*: 0, expected 110"),
    ],
)
def test_books_that_are_not_kept_are_caught(workload_class, complaint, server, tables):
    workload = workload_class(Held(server=server), tables)
    witness = Witness(workload)

    result = run(workload)

    assert result.failed == 0, "the load itself saw nothing wrong"
    with pytest.raises(WorkNotDoneError, match=complaint):
        witness.confirm(result)


def test_failed_transaction_leaves_nothing_behind(server, tables):
    """It is rolled back, counted as failed, and its connection goes on."""
    with connect(server.connect_arguments()) as connection:
        connection.execute(
            f"ALTER TABLE {HISTORY} ADD CONSTRAINT poor CHECK (delta > 0)"
        )
    workload = TpcB(Held(server=server), tables)
    witness = Witness(workload)

    result = run(workload, workers=1)

    assert set(result.errors) == {psycopg.errors.CheckViolation.__name__}
    assert 20 < result.completed < 80
    witness.confirm(result)


def test_tables_of_the_same_scale_are_used_again(server, tables):
    workload = TpcB(Held(server=server), tables)
    run(workload)
    with connect(server.connect_arguments()) as connection:
        assert seed_pgbench(connection, scale=1) == tables
        kept = connection.execute(f"SELECT count(*) FROM {HISTORY}").fetchone()
        assert kept == (110,)
        assert seed_pgbench(connection, scale=2).accounts == 200_000
        new = connection.execute(f"SELECT count(*) FROM {HISTORY}").fetchone()
        assert new == (0,)


@pytest.mark.usefixtures("tables")
def test_somebody_elses_tables_are_left_alone(server):
    with connect(server.connect_arguments()) as connection:
        connection.execute(f"COMMENT ON TABLE {HISTORY} IS 'mine'")
        with pytest.raises(ConfigError, match="pgbench_history exists and was not"):
            seed_pgbench(connection, scale=1)
        with pytest.raises(ConfigError, match="scale must be >= 1, got 0"):
            seed_pgbench(connection, scale=0)
