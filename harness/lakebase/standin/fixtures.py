"""Fixtures of the stand-in: a Lakebase on this machine, and a network to spoil."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lakebase.standin.fault_proxy import FaultProxy
    from harness.lakebase.standin.standin import LakebaseStandin
    from harness.postgres.server import Server
    from harness.postgres.slot_pool import SlotPool


# A fault every two seconds for ten minutes; the same ones in every run.
FLAKY_SEED, FLAKY_S, FLAKY_FAULTS = 1, 600.0, 300

STANDINS = pytest.StashKey[list["LakebaseStandin"]]()


@pytest.fixture(scope="session")
def standin_postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The Postgres behind stand-ins: the target, or an embedded one of its own."""
    from harness.lakebase.standin.provision import start_plain_backing
    from harness.postgres.targets import resolve
    from harness.settings.fixtures import settings_of

    settings = settings_of(request.config)
    if resolve(settings).target in {"dsn", "docker"}:
        yield request.getfixturevalue("postgres")
        return
    server = start_plain_backing(settings)
    yield server
    server.close()


@pytest.fixture
def make_lakebase_standin(
    standin_postgres: Server, request: pytest.FixtureRequest
) -> Iterator[Callable[..., LakebaseStandin]]:
    """Return a factory of stand-ins: `make_lakebase_standin(time_scale=3600, cu=2)`.

    Takes what `StandinPlan` takes. Each is ended at teardown.
    """
    from harness.lakebase.standin.plan import StandinPlan
    from harness.lakebase.standin.standin import LakebaseStandin

    standins = request.node.stash[STANDINS] = []
    with ExitStack() as stack:

        def make(**plan: Any) -> LakebaseStandin:
            standin = LakebaseStandin(StandinPlan(**plan), backing=standin_postgres)
            standins.append(standin)
            return stack.enter_context(standin)

        yield make


@pytest.fixture
def lakebase_standin(
    make_lakebase_standin: Callable[..., LakebaseStandin],
) -> LakebaseStandin:
    """A stand-in that behaves as the service does, at the service's pace."""
    return make_lakebase_standin()


@pytest.fixture
def make_fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Return a factory of fault proxies: `make_fault_proxy(host, port, seed=1)`.

    Between any client and any server; each is ended at teardown.
    """
    from harness.lakebase.standin.fault_proxy import FaultProxy

    with ExitStack() as stack:

        def make(host: str, port: int, *, seed: int = 0) -> FaultProxy:
            return stack.enter_context(FaultProxy(host, port, seed=seed))

        yield make


@pytest.fixture
def flaky_lakebase_standin(
    lakebase_standin: LakebaseStandin, make_fault_proxy: Callable[..., FaultProxy]
) -> LakebaseStandin:
    """A stand-in on a bad network: a fault about every two seconds, then health.

    Its `port` is the proxy's; its own `direct_port` has no faults.
    """
    from harness.lakebase.standin.faults import random_timetable
    from harness.lakebase.standin.plan import HOST

    proxy = make_fault_proxy(HOST, lakebase_standin.direct_port, seed=FLAKY_SEED)
    lakebase_standin.port = proxy.port
    lakebase_standin.proxy = proxy
    proxy.play(random_timetable(FLAKY_SEED, duration_s=FLAKY_S, faults=FLAKY_FAULTS))
    return lakebase_standin


@pytest.fixture
def make_standin_pool(
    open_pools: Callable[..., SlotPool],
) -> Iterator[Callable[..., SlotPool]]:
    """Return a factory of pools over a stand-in, with tokens minted by the SDK.

    `make_standin_pool(standin, size_max=8, pooled=True)`. What it takes beside the
    pool's configuration goes to `LakebaseStandin.server`, settings with two
    underscores included; every connection must be back at teardown.
    """
    with ExitStack() as stack:

        def make(
            standin: LakebaseStandin,
            *,
            kind: str | None = None,
            replica: bool = False,
            pooled: bool = False,
            **config: Any,
        ) -> SlotPool:
            about = {name: config.pop(name) for name in list(config) if "__" in name}
            server = standin.server(replica=replica, pooled=pooled, **about)
            stack.callback(server.close)
            return open_pools(server, kind=kind, **config)

        yield make


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say that a stand-in was measured, and how it behaves."""
    standins = item.stash.get(STANDINS, None)
    if not standins:
        return None
    from harness.lakebase.standin.plan import plan_facts

    server: Server = item.funcargs["standin_postgres"]  # type: ignore[attr-defined]
    return {
        "postgres_target": "lakebase-standin",
        "standin_postgres_version": server.info.version,
        **plan_facts(standins[0].plan),
    }
