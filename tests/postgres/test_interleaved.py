"""Workloads interleave: the same work, the same proof, one thread."""

from __future__ import annotations

import threading

import pytest

from harness.errors import ConfigError
from harness.load import poisson_arrivals, run_closed_loop, run_open_loop
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.pgbench_tables import seed_pgbench
from harness.postgres.pool import PoolConfig
from harness.postgres.psycopg_pool import PsycopgPool
from harness.postgres.workloads import AccountLookup, Held, Pooled, TpcB, Witness
from harness.postgres.workloads.interleaved import (
    InterleavedCursorSession,
    InterleavedDirectSession,
)

WORKERS = 4


@pytest.fixture(scope="module")
def server(make_settings):
    server = start_embedded(make_settings(), reason="for a test")
    yield server
    server.close()


@pytest.fixture(scope="module")
def tables(server):
    with connect(server.connect_arguments()) as connection:
        return seed_pgbench(connection, scale=1)


def source_of(kind, server, *, size=WORKERS):
    if kind == "held":
        return Held(server=server)
    return Pooled(server=server, config=PoolConfig(size_min=size, size_max=size))


def places_of(workload):
    return {
        "process_setup": workload.process_setup,
        "process_teardown": workload.process_teardown,
        "setup": workload.setup,
        "teardown": workload.teardown,
    }


@pytest.mark.parametrize("direct", [True, False], ids=["libpq", "cursor"])
@pytest.mark.parametrize("kind", ["held", "pool"])
@pytest.mark.parametrize("workload_class", [AccountLookup, TpcB])
def test_work_is_done_and_proved(workload_class, kind, direct, server, tables):
    workload = workload_class(source_of(kind, server), tables, direct=direct)
    witness = Witness(workload)
    result = run_closed_loop(
        workload, workers=WORKERS, count=200, interleaved=True, **places_of(workload)
    )
    assert result.completed == 200, result.examples
    assert (result.operations_by_worker > 0).all()
    witness.confirm(result)


class BlockedTogether(AccountLookup):
    """Sleeps on the server: four at once take the time of one."""

    def operate(self, session, _worker):
        session.execute("SELECT pg_sleep(0.1)")
        assert session.execute("SELECT 42").fetchone() == (42,)


@pytest.mark.parametrize("direct", [True, False], ids=["libpq", "cursor"])
def test_statements_are_on_the_server_at_the_same_time(direct, server, tables):
    threads = threading.active_count()
    workload = BlockedTogether(Held(server=server), tables, direct=direct)
    result = run_closed_loop(
        workload, workers=WORKERS, count=8, interleaved=True, **places_of(workload)
    )
    assert result.completed == 8, result.examples
    one_after_the_other_s = 8 * 0.1
    assert result.wall_s < one_after_the_other_s * 0.75
    assert threading.active_count() == threads


def test_an_open_loop_is_proved_too(server, tables):
    workload = AccountLookup(source_of("pool", server), tables, direct=True)
    witness = Witness(workload)
    result = run_open_loop(
        workload,
        poisson_arrivals(rate_per_s=400, duration_s=0.5, seed=5),
        workers=WORKERS,
        interleaved=True,
        **places_of(workload),
    )
    assert result.completed == result.scheduled > 100
    witness.confirm(result)


def test_a_pool_too_small_is_refused_before_anybody_waits_for_it(server, tables):
    """Its callers would stop the one thread that could give a connection back."""
    workload = AccountLookup(source_of("pool", server, size=WORKERS - 1), tables)
    with pytest.raises(ConfigError, match=r"size_max=3.*more workers"):
        run_closed_loop(
            workload, workers=WORKERS, count=8, interleaved=True, **places_of(workload)
        )


class Broken(AccountLookup):
    def operate(self, session, _worker):
        session.execute("SELECT 1 / (%s::int - 1)", (1,))


class Cut(AccountLookup):
    """The server ends the session in the middle of its statement."""

    def operate(self, session, _worker):
        session.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize("direct", [True, False], ids=["libpq", "cursor"])
@pytest.mark.parametrize(
    ("workload_class", "name"), [(Broken, "DivisionByZero"), (Cut, "AdminShutdown")]
)
def test_an_error_of_the_server_is_named(workload_class, name, direct, server, tables):
    workload = workload_class(Held(server=server), tables, direct=direct)
    result = run_closed_loop(
        workload, workers=1, count=1, interleaved=True, **places_of(workload)
    )
    assert result.errors == {name: 1}


@pytest.mark.parametrize(
    "session_class", [InterleavedCursorSession, InterleavedDirectSession]
)
def test_outside_a_load_a_session_blocks_like_any_other(session_class, server):
    """A connection of a pool goes on to callers that are not interleaved."""
    with connect(server.connect_arguments()) as connection:
        session = session_class(connection)
        assert session.execute("SELECT 7 + %s::int", (1,)).fetchone() == (8,)
        with session.transaction():
            assert connection.execute("SELECT 9").fetchone() == (9,)
        later = session_class(connection)
        assert later.execute("SELECT 7 + %s::int", (2,)).fetchone() == (9,)


def test_a_pool_that_stays_open_serves_one_load_after_the_other(server, tables):
    """Its sessions outlive the hub of the load in which they were made."""
    config = PoolConfig(size_min=WORKERS, size_max=WORKERS)
    with PsycopgPool(server, config) as pool:
        for _ in range(3):
            workload = AccountLookup(pool, tables, direct=True)
            result = run_closed_loop(
                workload,
                workers=WORKERS,
                count=40,
                interleaved=True,
                **places_of(workload),
            )
            assert (result.completed, result.failed) == (40, 0)
