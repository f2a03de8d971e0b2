"""What does the stand-in cost where nothing is wrong: direct against through it?"""

from __future__ import annotations

import statistics

import psycopg
import pytest

from harness.clock import SYSTEM_CLOCK

WAYS = ("direct", "front", "front-tls", "pooled", "proxy")


@pytest.fixture
def arguments_of(make_lakebase_standin, make_fault_proxy, standin_postgres):
    """Return a function that says how to connect each way to the same Postgres."""

    def find(way):
        if way == "direct":
            return standin_postgres.connect_arguments()
        # The pooled host is told by its name alone, and names come with TLS.
        tls = way in {"front-tls", "pooled"}
        standin = make_lakebase_standin(tls=tls, has_replica=False)
        # A native password: this is about bytes, not about tokens.
        arguments = standin.connect_arguments(
            standin.native_password.get_secret_value(),
            user=standin.native_role,
            host=standin.host(pooled=way == "pooled"),
        )
        if way == "proxy":
            arguments["port"] = make_fault_proxy("127.0.0.1", standin.port).port
        return arguments

    return find


@pytest.mark.benchmark(group="standin-round-trip")
@pytest.mark.parametrize("way", WAYS, ids="way={}".format)
def test_round_trip(benchmark, arguments_of, way, sized):
    """One `SELECT 1`, one caller: the least that a query through it takes."""
    with psycopg.connect(
        **arguments_of(way), autocommit=True, prepare_threshold=None
    ) as connection:

        def ask():
            return connection.execute("SELECT 1").fetchone()

        answer = benchmark.pedantic(
            ask,
            rounds=sized(full=3000, smoke=50),
            warmup_rounds=sized(full=200, smoke=5),
        )

    assert answer == (1,)


@pytest.mark.benchmark(group="standin-login")
@pytest.mark.parametrize("way", WAYS, ids="way={}".format)
def test_login(benchmark, arguments_of, way, sized):
    """One connection, opened and closed."""
    arguments = arguments_of(way)

    def log_in():
        psycopg.connect(**arguments).close()

    benchmark.pedantic(
        log_in, rounds=sized(full=200, smoke=5), warmup_rounds=sized(full=10, smoke=1)
    )


@pytest.mark.benchmark(group="standin-bulk")
@pytest.mark.parametrize("way", WAYS, ids="way={}".format)
def test_bulk_read(benchmark, arguments_of, way, sized):
    """Twenty megabytes from the server: what the data path takes per byte."""
    size = sized(full=20_000, smoke=200)
    rows = f"SELECT repeat('x', 1000) FROM generate_series(1, {size})"  # noqa: S608
    query = f"COPY ({rows}) TO STDOUT"
    with psycopg.connect(
        **arguments_of(way), autocommit=True, prepare_threshold=None
    ) as connection:

        def read():
            with connection.cursor().copy(query) as copy:
                return sum(map(len, copy))

        received = benchmark.pedantic(
            read, rounds=sized(full=10, smoke=1), warmup_rounds=sized(full=2, smoke=0)
        )

    assert received == size * 1001


@pytest.mark.benchmark(group="standin-added")
@pytest.mark.parametrize("way", WAYS[1:], ids="way={}".format)
def test_added_to_a_round_trip(benchmark, arguments_of, way, sized):
    """Direct and through in turns, so that both meet the same machine."""
    options = {"autocommit": True, "prepare_threshold": None}
    with (
        psycopg.connect(**arguments_of("direct"), **options) as direct,
        psycopg.connect(**arguments_of(way), **options) as through,
    ):
        direct_ns, through_ns = [], []

        def ask_both():
            for connection, kept in ((direct, direct_ns), (through, through_ns)):
                begin_ns = SYSTEM_CLOCK.monotonic_ns()
                connection.execute("SELECT 1")
                kept.append(SYSTEM_CLOCK.monotonic_ns() - begin_ns)

        benchmark.pedantic(ask_both, rounds=sized(full=3000, smoke=50))

    direct_us, through_us = (
        statistics.median(kept) / 1000 for kept in (direct_ns, through_ns)
    )
    benchmark.extra_info["direct_us_p50"] = round(direct_us, 1)
    benchmark.extra_info["through_us_p50"] = round(through_us, 1)
    print(  # noqa: T201 - shown with -s and on failure; the record has it too
        f"{way}: direct {direct_us:.1f} us, through {through_us:.1f} us, "
        f"added {through_us - direct_us:.1f} us"
    )
    # Anything slower would decide what is measured through it.
    assert through_us < 20 * direct_us
