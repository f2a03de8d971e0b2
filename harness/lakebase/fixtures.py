"""pytest's side of the pools: `make_pool`, `pool`, the seeded table, thread counts."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ConfigError, WorkNotDoneError
from harness.lakebase.pools import open_pool, pool_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lakebase.monitoring.snapshot import PoolFigures
    from harness.load import LoadResult
    from harness.load.runner import Spread
    from harness.postgres.anchor import Anchor
    from harness.postgres.pool import Pool
    from harness.postgres.seeding import SeededTable
    from harness.postgres.server import Server
    from harness.postgres.slot_pool import SlotPool
    from harness.postgres.workloads import Witness, Workload
    from harness.settings import Settings

SMOKE_ROWS = 10_000
SMOKE_DURATION_S = 1.0
SMOKE_SUFFIX = "_smoke"
NAME_LENGTH_MAX = 63

FIGURES = pytest.StashKey[dict[int, "PoolFigures"]]()
POOLS = pytest.StashKey[list["SlotPool"]]()


@pytest.fixture
def open_pools(
    settings: Settings, request: pytest.FixtureRequest
) -> Iterator[Callable[..., SlotPool]]:
    """Return a factory of pools on a server; every connection must be back at teardown.

    A benchmark that leaks a connection has measured a smaller pool than it says, so
    a leak fails the test instead of being tidied up silently.
    """
    pools: list[SlotPool] = []
    request.node.stash[POOLS] = pools

    def make(server: Server, *, kind: str | None = None, **config: Any) -> SlotPool:
        pool = open_pool(
            kind or settings.pool.engine, server, pool_config(settings, **config)
        )
        pools.append(pool)
        return pool

    yield make

    leaks = [
        f"pool {pool.name!r}: checked out at {place}"
        for pool in pools
        for place in pool.borrowed_at()
    ]
    for pool in pools:
        pool.close()
    if leaks:
        pytest.fail(
            f"{len(leaks)} connections never came back:\n  " + "\n  ".join(leaks),
            pytrace=False,
        )


@pytest.fixture
def make_pool(
    postgres: Server, open_pools: Callable[..., SlotPool]
) -> Callable[..., Pool]:
    """Return a factory of pools on the target.

    `make_pool(kind="queue", size_min=4, size_max=4)`; what is not given comes from
    the settings.
    """
    return partial(open_pools, postgres)


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    """A pool of the kind and size that the settings ask for."""
    return make_pool()


@pytest.fixture
def prewarmed_pool(make_pool: Callable[..., Pool], settings: Settings) -> Pool:
    """A pool of the configured kind with every connection it may have open.

    Connecting is measured on its own; here it would only blur the first second.
    """
    size = pool_config(settings).size_max
    return make_pool(size_min=size, size_max=size)


@pytest.fixture
def measure_workload(
    postgres: Server,
    settings: Settings,
    sized: Callable[..., float],
    record_load: Callable[..., None],
    anchor: Callable[..., Anchor],
    spread_load: Spread | None,
) -> Callable[..., LoadResult]:
    """Return a function that measures a workload and proves that it was done.

    `measure_workload(workload, threads=20)` runs a closed loop for the configured
    duration, warm-up apart, files the result as this test's benchmark, with what the
    server says of it, and asks the server for its own count. A wrong or missing row
    fails the test; operations that fail otherwise are a result and stand in the
    report.

    `processes=2` spreads the threads over processes, on Spark executors under
    `--load-on=spark`; `interleaved=True` runs those of a process in one thread;
    `beside="select-only"` or
    `"tpcb-like"` runs the same through pgbench, before and after;
    `rows_per_operation` adds rows per second to the report.
    """
    from harness.load import run_closed_loop
    from harness.postgres.evidence import ServerEvidence
    from harness.postgres.workloads import Witness

    def measure(
        workload: Workload,
        *,
        threads: int,
        processes: int = 1,
        interleaved: bool = False,
        duration_s: float | None = None,
        beside: str | None = None,
        rows_per_operation: int | None = None,
    ) -> LoadResult:
        full_s = duration_s or settings.benchmark.test_duration_seconds
        pgbench = anchor(beside)
        pgbench.run()
        witness = Witness(workload)
        with ServerEvidence(postgres) as evidence:
            result = run_closed_loop(
                workload,
                workers=threads,
                processes=processes,
                interleaved=interleaved,
                duration_s=sized(full=full_s, smoke=min(full_s, SMOKE_DURATION_S)),
                warmup_s=sized(full=1.0, smoke=0.1),
                process_setup=workload.process_setup,
                process_teardown=workload.process_teardown,
                setup=workload.setup,
                teardown=workload.teardown,
                spread=spread_load,
            )
        # Before pgbench works on the same tables again.
        refused = _refusal(witness, result)
        pgbench.run()
        rows = (
            {"rows_per_s": round(result.throughput_per_s * rows_per_operation, 1)}
            if rows_per_operation
            else {}
        )
        shown = {
            **rows,
            **pgbench.details(result.throughput_per_s),
            "server": evidence.details(),
        }
        record_load(result, details=shown)
        if refused is not None:
            raise refused
        wrong_row = result.examples.get(WorkNotDoneError.__name__)
        if wrong_row is not None:
            raise wrong_row
        return result

    return measure


def _refusal(witness: Witness, result: LoadResult) -> WorkNotDoneError | None:
    """Return why the work was not done, if it was not."""
    try:
        witness.confirm(result)
    except WorkNotDoneError as error:
        return error
    return None


@pytest.fixture(scope="session")
def seeded_table(
    postgres: Server, settings: Settings, pytestconfig: pytest.Config
) -> SeededTable:
    """The table that workloads read and write, seeded once per server."""
    from harness.postgres.connect import connect
    from harness.postgres.seeding import seed_table

    name, rows = settings.benchmark.table_name, settings.benchmark.table_rows
    if pytestconfig.getoption("--smoke"):
        # A table of its own: on a lasting server the full one is not thrown away.
        name = name[: NAME_LENGTH_MAX - len(SMOKE_SUFFIX)] + SMOKE_SUFFIX
        rows = min(rows, SMOKE_ROWS)
    with (
        connect(postgres.connect_arguments()) as connection,
        _progress(pytestconfig, rows) as show,
    ):
        return seed_table(
            connection,
            name=name,
            rows=rows,
            batch_size=settings.benchmark.batch_size,
            on_progress=show,
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a case that asks for `threads` once per configured thread count.

    A case that parametrises `threads` itself keeps its own values.
    """
    own = {
        name
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in str(mark.args[0]).replace(" ", "").split(",")
    }
    if "threads" in metafunc.fixturenames and "threads" not in own:
        from harness.settings.fixtures import settings_of

        try:
            counts = settings_of(metafunc.config).benchmark.thread_counts
        except ConfigError:
            # The preflight of the settings ends the run with this error, once,
            # instead of one collection error a module.
            counts = (1,)
        metafunc.parametrize("threads", counts, ids="threads={:03d}".format)


def pytest_lakegauge_postgres_server(settings: Settings) -> Server | None:
    """Open the Lakebase target, if that is the one that was chosen."""
    if settings.target.target != "lakebase":
        return None
    from harness.lakebase.target import start_lakebase

    return start_lakebase(settings)


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say which pools an item was measured with, and whether on a stand-in."""
    pools = item.stash.get(POOLS, None)
    server = getattr(item, "funcargs", {}).get("postgres")
    told = {"standin": True} if getattr(server, "is_standin", False) else {}
    if not pools:
        return told or None
    facts: dict[str, Any] = {
        **told,
        "pool_kind": "+".join(sorted({pool.name for pool in pools})),
        "pool_size_min": pools[0].config.size_min,
        "pool_size_max": pools[0].config.size_max,
    }
    table = getattr(item, "funcargs", {}).get("seeded_table")
    if table is not None:
        facts["table_rows"] = table.rows
    return facts


def pytest_lakegauge_live(item: pytest.Item) -> dict[str, Any] | None:
    """Say how the pools of an item are."""
    pools = item.stash.get(POOLS, None)
    if not pools:
        return None
    from harness.lakebase.monitoring.snapshot import PoolFigures

    known = item.stash.setdefault(FIGURES, {})
    for pool in list(pools):
        if id(pool) not in known:
            known[id(pool)] = PoolFigures(pool)
    return {"pools": [known[id(pool)].pool() for pool in list(pools)]}


@contextmanager
def _progress(config: pytest.Config, rows: int) -> Iterator[Callable[[int], object]]:
    """Show a bar while seeding, where somebody is looking."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty or config.option.verbose < 0:
        yield lambda _rows: None
        return
    from rich.console import Console
    from rich.progress import Progress

    capture = config.pluginmanager.getplugin("capturemanager")
    with (
        capture.global_and_fixture_disabled() if capture else nullcontext(),
        Progress(console=Console(), transient=True) as progress,
    ):
        task = progress.add_task("seeding the table", total=rows)
        yield lambda done: progress.update(task, completed=done)
