"""Settings in pytest: loaded once per session, with the options on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.settings import Settings

_SETTINGS = pytest.StashKey["Settings"]()

# Options that are settings too; who adds them is their own subject's matter.
_OPTIONS = ("--target", "--pool", "--preset", "--spark-remote", "--delta-jars")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the sizing presets."""
    group = parser.getgroup("lakegauge")
    group.addoption(
        "--preset",
        metavar="NAME",
        help="Pool size, overflow and thread counts: light, medium, heavy, stress.",
    )


def settings_of(config: pytest.Config) -> Settings:
    """Return the settings of this run, options included; loaded on first use.

    Raises:
        ConfigError: If anything is wrong; it lists every problem found.
    """
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = load_settings(
            {name: config.getoption(name, None) for name in _OPTIONS},
            cwd=config.invocation_params.dir,
            root=config.rootpath,
        )
    return config.stash[_SETTINGS]


@pytest.hookimpl(tryfirst=True)
def pytest_lakegauge_preflight(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> None:
    """Load the settings before any server starts, if an item depends on them.

    Raises:
        ConfigError: If anything is wrong with them.
    """
    if any("settings" in getattr(item, "fixturenames", ()) for item in items):
        settings_of(config)


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """Every setting of this run; `settings.source_of(...)` says where from."""
    return settings_of(pytestconfig)
