"""Fixtures `lakebase_standin`, `make_lakebase_standin`: a Lakebase on this machine."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lakebase.standin.standin import LakebaseStandin
    from harness.postgres.server import Server


# The largest size whose limit a backing server of ours can hold.
BACKING_CONNECTIONS = 900


@pytest.fixture(scope="session")
def standin_postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The Postgres behind stand-ins: the target, or an embedded one of its own.

    Of its own, because stand-ins end sessions and empty caches, and because the
    stand-in ends TLS: a second encryption behind it would only cost time.
    """
    from harness.postgres.embedded import start_embedded
    from harness.postgres.targets import resolve
    from harness.settings.fixtures import settings_of

    settings = settings_of(request.config)
    if resolve(settings).target in {"dsn", "docker"}:
        yield request.getfixturevalue("postgres")
        return
    server = start_embedded(
        settings,
        reason="behind a stand-in",
        tls=False,
        max_connections=BACKING_CONNECTIONS,
    )
    yield server
    server.close()


@pytest.fixture
def make_lakebase_standin(
    standin_postgres: Server,
) -> Iterator[Callable[..., LakebaseStandin]]:
    """Return a factory of stand-ins: `make_lakebase_standin(time_scale=3600, cu=2)`.

    Takes what `StandinPlan` takes. Each is ended at teardown.
    """
    from harness.lakebase.standin.plan import StandinPlan
    from harness.lakebase.standin.standin import LakebaseStandin

    with ExitStack() as stack:

        def make(**plan: Any) -> LakebaseStandin:
            standin = LakebaseStandin(StandinPlan(**plan), backing=standin_postgres)
            return stack.enter_context(standin)

        yield make


@pytest.fixture
def lakebase_standin(
    make_lakebase_standin: Callable[..., LakebaseStandin],
) -> LakebaseStandin:
    """A stand-in that behaves as the service does, at the service's pace."""
    return make_lakebase_standin()
