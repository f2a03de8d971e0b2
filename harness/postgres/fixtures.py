"""The `postgres` fixture: one server per run, started only when a test needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.postgres.anchor import Anchor
    from harness.postgres.pgbench import Pgbench
    from harness.postgres.pgbench_tables import PgbenchTables
    from harness.postgres.server import Server
    from harness.postgres.usertable import Usertable
    from harness.settings import Settings

FIXTURE = "postgres"
# What a reader must know of a server before comparing two numbers from it.
SHOWN_SETTINGS = ("fsync", "synchronous_commit", "shared_buffers")

# One branch for each of 16 clients would be TPC-B's way; ten fit the caches.
SCALE, SMOKE_SCALE = 10, 1
RECORDS, SMOKE_RECORDS = 50_000, 1_000
ANCHOR_DURATION_S = 2

SERVER_KEY = pytest.StashKey["Running"]()


class Running:
    """The server of this run, and what its header line and facts say."""

    def __init__(self, server: Server, warning: str | None) -> None:
        self.server = server
        self.warning = warning
        self.settings = _server_settings(server)

    def header(self) -> list[str]:
        """Return the lines under the collection count."""
        info = self.server.info
        tls = info.tls or "no TLS offered"
        lines = [f"postgres: {info.target} {info.version}, {tls} ({info.reason})"]
        if self.warning:
            lines.append(f"warning: {self.warning}")
        return lines

    def facts(self) -> dict[str, Any]:
        """Return what is saved with each record."""
        info = self.server.info
        return {
            "postgres_target": info.target,
            "postgres_version": info.version,
            "postgres_tls": info.tls or "none",
            "postgres_max_connections": info.max_connections,
            **{f"postgres_{name}": value for name, value in self.settings.items()},
        }


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Server:
    """The Postgres under test, chosen by `--target`."""
    return _running(pytestconfig).server


@pytest.fixture(scope="session")
def pgbench(settings: Settings) -> Pgbench | None:
    """The pgbench of this machine, or None where there is none."""
    from harness.postgres.pgbench import find_pgbench

    return find_pgbench(settings.target.postgres_bin_dir)


@pytest.fixture(scope="session")
def pgbench_tables(postgres: Server, pytestconfig: pytest.Config) -> PgbenchTables:
    """Pgbench's own tables, seeded once per server."""
    from harness.postgres.connect import connect
    from harness.postgres.pgbench_tables import seed_pgbench

    smoke = pytestconfig.getoption("--smoke")
    with connect(postgres.connect_arguments()) as connection:
        return seed_pgbench(connection, scale=SMOKE_SCALE if smoke else SCALE)


@pytest.fixture
def usertable(postgres: Server, sized: Callable[..., int]) -> Usertable:
    """YCSB's table, made anew for each case: some of its workloads insert."""
    from harness.postgres.connect import connect
    from harness.postgres.usertable import seed_usertable

    records = sized(full=RECORDS, smoke=SMOKE_RECORDS)
    with connect(postgres.connect_arguments()) as connection:
        return seed_usertable(connection, records=records)


@pytest.fixture
def anchor(
    postgres: Server, sized: Callable[..., Any], request: pytest.FixtureRequest
) -> Callable[..., Anchor]:
    """Return a function that makes what runs a workload through pgbench, or nothing.

    `anchor("select-only")`, with `rate_per_s=` beside an open loop; pgbench's tables
    are only made when they are needed.
    """
    from harness.postgres.anchor import Anchor

    def make(workload: str | None, *, rate_per_s: float | None = None) -> Anchor:
        if workload is None:
            return Anchor()
        request.getfixturevalue("pgbench_tables")
        return Anchor(
            pgbench=request.getfixturevalue("pgbench"),
            server=postgres,
            workload=workload,
            duration_s=sized(full=ANCHOR_DURATION_S, smoke=None),
            rate_per_s=rate_per_s,
        )

    return make


def pytest_lakegauge_preflight(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> None:
    """Start the server before any work, so that what is wrong shows at once."""
    if _starts_servers(config) and any(_uses_postgres(item) for item in items):
        _running(config)


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say what server an item was measured on."""
    if not _uses_postgres(item):
        return None
    return _running(item.config).facts()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say which Postgres is measured and why."""
    running = config.stash.get(SERVER_KEY, None)
    return running.header() if running else []


def _running(config: pytest.Config) -> Running:
    """Return the server of this run, starting it on the first call."""
    running = config.stash.get(SERVER_KEY, None)
    if running is None:
        from harness.postgres.targets import start
        from harness.settings.fixtures import settings_of

        def lakebase(settings: Settings) -> Server | None:
            server: Server | None = config.hook.pytest_lakegauge_postgres_server(
                config=config, settings=settings
            )
            return server

        server, warning = start(
            settings_of(config), notify=_notifier(config), lakebase=lakebase
        )
        config.add_cleanup(server.close)
        running = config.stash[SERVER_KEY] = Running(server, warning)
    return running


def _uses_postgres(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def _starts_servers(config: pytest.Config) -> bool:
    """Tell whether tests will really run in this process."""
    if config.option.collectonly:
        return False
    # The controller of a distributed run only hands out tests.
    distributed = getattr(config.option, "dist", "no") != "no"
    return hasattr(config, "workerinput") or not distributed


def _notifier(config: pytest.Config) -> Any:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return lambda _text: None
    return lambda text: reporter.write_line(f"postgres: {text}")


def _server_settings(server: Server) -> dict[str, str]:
    from harness.postgres.connect import connect

    with connect(server.connect_arguments()) as connection:
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)",
            (list(SHOWN_SETTINGS),),
        ).fetchall()
    found = dict(rows)
    return {name: found[name] for name in SHOWN_SETTINGS if name in found}
