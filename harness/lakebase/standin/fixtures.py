"""Fixtures `lakebase_standin`, `make_lakebase_standin`: a Lakebase on this machine."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lakebase.standin.standin import LakebaseStandin


@pytest.fixture
def make_lakebase_standin() -> Iterator[Callable[..., LakebaseStandin]]:
    """Return a factory of stand-ins: `make_lakebase_standin(time_scale=3600, cu=2)`.

    Takes what `StandinPlan` takes. Each is ended at teardown.
    """
    from harness.lakebase.standin.plan import StandinPlan
    from harness.lakebase.standin.standin import LakebaseStandin

    with ExitStack() as stack:

        def make(**plan: Any) -> LakebaseStandin:
            return stack.enter_context(LakebaseStandin(StandinPlan(**plan)))

        yield make


@pytest.fixture
def lakebase_standin(
    make_lakebase_standin: Callable[..., LakebaseStandin],
) -> LakebaseStandin:
    """A stand-in that behaves as the service does, at the service's pace."""
    return make_lakebase_standin()
