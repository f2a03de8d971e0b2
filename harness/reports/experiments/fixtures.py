"""pytest's side of an experiment: a slowdown put in on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ConfigError
from harness.load.injection import inject_slowdown

_SHARE_MAX = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of an injected slowdown."""
    parser.getgroup("lakegauge").addoption(
        "--slow-down",
        default=None,
        metavar="SHARE",
        help="make everything that is measured take this share longer (0.05: 5 %%), to "
        "try a gate; used by `lakegauge calibrate`. The share is a fact of every case, "
        "so such a run is never compared with another one",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_lakegauge_preflight(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set the slowdown before anything runs.

    Raises:
        ConfigError: If it is no share.
    """
    del items
    inject_slowdown(_share_of(config))


def pytest_unconfigure() -> None:
    """Leave nothing behind for another session of this process."""
    inject_slowdown(None)


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say that the case was slowed down."""
    share = _share_of(item.config)
    return None if share is None else {"slowed_down": share}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Slow down what pytest-benchmark times itself; the load engine does its own."""
    if _share_of(item.config) is None:
        return
    from harness.reports.bridge import slow_down_rounds
    from harness.reports.fixtures import RECORDING_FIXTURES

    names = set(getattr(item, "fixturenames", ()))
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is not None and not names & RECORDING_FIXTURES:
        slow_down_rounds(fixture)


def _share_of(config: pytest.Config) -> float | None:
    text = config.option.slow_down
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= _SHARE_MAX:
        msg = f"--slow-down={text}: must be a share from 0 to 10, such as 0.05"
        raise ConfigError(msg)
    return share
