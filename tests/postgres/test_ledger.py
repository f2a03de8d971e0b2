"""The ledger's audit: it must see what a careless client would do."""

from __future__ import annotations

from contextlib import contextmanager

import psycopg
import pytest

from harness.errors import OutcomeUnknownError, WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.postgres.workloads import Ledger
from harness.retry_budget import RetryBudget


@pytest.fixture
def ledger_pool(embedded):
    with PsycopgPool(embedded, PoolConfig(size_min=2, size_max=4)) as pool:
        yield pool


@pytest.fixture
def tamper(embedded):
    """Change the table behind the ledger's back."""

    def change(statement):
        with connect(embedded.connect_arguments()) as connection:
            connection.execute(statement)

    return change


def run(ledger, count=40):
    return run_closed_loop(ledger, workers=4, count=count)


def test_ledger_adds_up_when_all_goes_well(ledger_pool):
    ledger = Ledger(ledger_pool)

    result = run(ledger)

    audit = ledger.confirm()
    assert result.completed == 40
    assert (audit.offered, audit.acknowledged, audit.refused) == (40, 40, 0)
    assert audit.unknown == audit.retried == 0


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM ledger WHERE number IN (3, 9)", "2 acknowledged and not there"),
        ("INSERT INTO ledger VALUES (7)", "1 there more than once"),
        ("INSERT INTO ledger VALUES (999)", "1 there and not asked for"),
    ],
)
def test_ledger_sees_what_was_lost_doubled_or_made_up(
    ledger_pool, tamper, statement, words
):
    ledger = Ledger(ledger_pool)
    run(ledger)
    tamper(statement)

    with pytest.raises(WorkNotDoneError, match=words):
        ledger.confirm()


def test_ledger_sees_an_operation_that_nobody_reported(ledger_pool):
    ledger = Ledger(ledger_pool)
    run(ledger)
    ledger._told.pop(5)

    with pytest.raises(WorkNotDoneError, match="1 neither completed nor reported"):
        ledger.confirm()


class LostAnswers:
    """A pool whose third commit is carried out, but its answer is lost."""

    def __init__(self, pool, *, is_done):
        self._pool, self._is_done, self._commits = pool, is_done, 0

    @contextmanager
    def checkout(self):
        with self._pool.checkout() as connection:
            yield _Cut(connection, self)

    def commit(self, connection):
        self._commits += 1
        if self._commits != 3:
            return connection.execute("COMMIT")
        if self._is_done:
            connection.execute("COMMIT")
        connection.close()
        msg = "the connection is lost"
        raise psycopg.OperationalError(msg)


class _Cut:
    def __init__(self, connection, owner):
        self._connection, self._owner = connection, owner

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, query, values=None):
        if query == "COMMIT":
            return self._owner.commit(self._connection)
        return self._connection.execute(query, values)


@pytest.mark.parametrize("is_done", [True, False])
def test_lost_answer_is_reported_as_unknown_and_looked_up(ledger_pool, is_done):
    ledger = Ledger(LostAnswers(ledger_pool, is_done=is_done))

    result = run(ledger, count=10)

    audit = ledger.confirm()
    assert result.errors == {OutcomeUnknownError.__name__: 1}
    assert (audit.acknowledged, audit.refused) == (9, 0)
    assert (audit.unknown, audit.unknown_done) == (1, int(is_done))


@pytest.mark.parametrize("is_done", [True, False])
def test_settled_operations_learn_what_became_of_a_lost_answer(ledger_pool, is_done):
    ledger = Ledger(LostAnswers(ledger_pool, is_done=is_done), settle_every=1)

    result = run(ledger, count=10)

    audit = ledger.confirm()
    assert result.completed == audit.acknowledged == 10
    assert audit.unknown == 0


def test_blind_retry_of_a_lost_answer_is_caught(ledger_pool):
    """What the ledger is for: a client that repeats such a commit does it twice."""
    pool = LostAnswers(ledger_pool, is_done=True)
    ledger = Ledger(pool)

    class Blind(Recovery):
        def call(self, operation, **how):
            return super().call(operation, **{**how, "idempotent": True})

    ledger._recovery = Blind(RetryPolicy(delay_min_s=0.001), budget=RetryBudget())
    result = run(ledger, count=10)

    assert result.failed == 0, "its callers notice nothing"
    with pytest.raises(WorkNotDoneError, match="1 there more than once"):
        ledger.confirm()
