"""The process environment, lent without its secrets to libraries that hand it on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.settings.model import Settings


@contextmanager
def scrubbed_environment(
    settings: Settings | None = None,
    *,
    extra: Mapping[str, str] | None = None,
    drop: Iterable[str] = (),
) -> Iterator[None]:
    """Take the secrets out of `os.environ` for the length of a block.

    Some libraries copy `os.environ` to the children they start and take no
    other environment. Prefer `child_environment()` wherever one can be passed.
    The whole process is affected, so enter it where nothing else runs.

    Args:
        settings: Settings whose secrets must not be passed on.
        extra: Variables to set inside the block.
        drop: Variables to leave out as well.
    """
    saved = dict(os.environ)
    clean = {**child_environment(settings), **(extra or {})}
    for name in set(drop) - set(extra or {}):
        clean.pop(name, None)
    _replace(clean)
    try:
        yield
    finally:
        _replace(saved)


def own_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's whole environment, for the user's own command once more.

    Secrets included: the command needs them to reach the same servers. Whatever is
    somebody else's program gets `child_environment()` instead. What pytest tells its
    own children is left out, or the new pytest would take itself for one of them.

    Args:
        extra: Variables to set besides.
    """
    mine = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return {**mine, **extra}


def _replace(wanted: Mapping[str, str]) -> None:
    """Make the environment equal *wanted*, touching only what differs."""
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
