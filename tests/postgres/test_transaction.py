"""A transaction is done once: before its commit it starts again, after it never."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg
import pytest

from harness.clock import ManualClock
from harness.errors import (
    OutcomeUnknownError,
    Verdict,
    WorkNotDoneError,
)
from harness.postgres.connect import connect
from harness.postgres.recovery import Recovery, RetryPolicy
from harness.postgres.transaction import run_transaction
from harness.retry_budget import RetryBudget


@pytest.fixture
def make_recovery():
    def make(**policy):
        return Recovery(
            RetryPolicy(**policy),
            budget=RetryBudget(),
            clock=ManualClock(),
            random=Random(1),
        )

    return make


class OnePool:
    """Gives out a fresh connection each time: what a transaction needs of a pool."""

    def __init__(self, server):
        self.server = server
        self.given = 0

    def checkout(self):
        self.given += 1
        return connect(self.server.connect_arguments())


@pytest.fixture
def table(embedded):
    with connect(embedded.connect_arguments()) as connection:
        connection.execute("DROP TABLE IF EXISTS tx; CREATE TABLE tx (k int)")
        yield lambda: connection.execute("SELECT count(*) FROM tx").fetchone()[0]
        connection.execute("DROP TABLE tx")


def insert(connection):
    connection.execute("INSERT INTO tx VALUES (1)")
    return "value"


def cut(connection):
    with socket.socket(fileno=connection.fileno()) as wire:
        wire.shutdown(socket.SHUT_RDWR)
        wire.detach()


def test_transaction_commits_once(embedded, table, make_recovery):
    pool = OnePool(embedded)
    assert run_transaction(pool, insert, recovery=make_recovery()) == "value"
    assert (table(), pool.given) == (1, 1)


def test_transaction_lost_before_its_commit_starts_again(
    embedded, table, make_recovery
):
    pool, attempts = OnePool(embedded), []

    def work(connection):
        insert(connection)
        if pool.given == 1:
            cut(connection)
            connection.execute("SELECT 1")

    run_transaction(pool, work, recovery=make_recovery(), attempts=attempts)
    assert (table(), pool.given) == (1, 2)
    assert [attempt.verdict for attempt in attempts] == [Verdict.RETRYABLE]


class LosesCommit:
    """A connection whose socket dies under the commit, after or before it arrives."""

    def __init__(self, connection, *, arrives):
        self.connection, self.arrives = connection, arrives

    def __enter__(self):
        self.connection.__enter__()
        return self

    def __exit__(self, *exc):
        self.connection.close()

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, statement, *args):
        if statement == "COMMIT":
            if self.arrives:
                self.connection.execute(statement)
            cut(self.connection)
        return self.connection.execute(statement, *args)


@pytest.mark.parametrize("arrives", [True, False])
def test_commit_whose_answer_is_lost_is_an_unknown_outcome(
    embedded, table, make_recovery, arrives
):
    class Losing(OnePool):
        def checkout(self):
            return LosesCommit(super().checkout(), arrives=arrives)

    pool = Losing(embedded)
    with pytest.raises(OutcomeUnknownError):
        run_transaction(pool, insert, recovery=make_recovery())
    assert pool.given == 1, "it is not repeated"
    assert table() == int(arrives)


@pytest.mark.parametrize("arrives", [True, False])
def test_lost_commit_can_be_settled_by_asking_the_server(
    embedded, table, make_recovery, arrives
):
    """Done: not repeated. Undone: repeated. Either way exactly one row."""

    class Losing(OnePool):
        def checkout(self):
            connection = super().checkout()
            if self.given == 1:
                return LosesCommit(connection, arrives=arrives)
            return connection

    pool = Losing(embedded)
    found = run_transaction(pool, insert, recovery=make_recovery(), settle=True)
    assert found == "value"
    assert table() == 1


def test_hidden_failure_of_a_statement_is_no_commit(embedded, table, make_recovery):
    """The server answers such a COMMIT with a rollback and no error."""

    def work(connection):
        insert(connection)
        with pytest.raises(psycopg.Error):
            connection.execute("SELEC")

    with pytest.raises(WorkNotDoneError, match="nothing was committed"):
        run_transaction(OnePool(embedded), work, recovery=make_recovery())
    assert table() == 0


@pytest.mark.usefixtures("table")
def test_work_that_commits_by_itself_is_an_error(embedded, make_recovery):
    def work(connection):
        insert(connection)
        connection.execute("COMMIT")

    with pytest.raises(WorkNotDoneError, match="ended its transaction"):
        run_transaction(OnePool(embedded), work, recovery=make_recovery())


def test_concurrent_serializable_transactions_lose_no_update(embedded):
    with connect(embedded.connect_arguments()) as connection:
        connection.execute("DROP TABLE IF EXISTS tally; CREATE TABLE tally (n int)")
        connection.execute("INSERT INTO tally VALUES (0)")

    def add(connection):
        (count,) = connection.execute("SELECT n FROM tally").fetchone()
        connection.execute("UPDATE tally SET n = %s", [count + 1])

    def run(seed):
        recovery = Recovery(
            RetryPolicy(retries_max=50, delay_min_s=0.001, delay_max_s=0.05),
            budget=RetryBudget(burst=1000),
            random=Random(seed),
        )
        for _ in range(5):
            run_transaction(
                OnePool(embedded),
                add,
                recovery=recovery,
                begin="BEGIN ISOLATION LEVEL SERIALIZABLE",
            )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    with connect(embedded.connect_arguments()) as connection:
        assert connection.execute("SELECT n FROM tally").fetchone() == (20,)
