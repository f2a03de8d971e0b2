"""pytest's side of an experiment: taking turns, and a slowdown put in on purpose."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import pytest

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import ConfigError, ReportError
from harness.load.injection import inject_slowdown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import psutil

    from harness.reports.experiments.turns import TurnTaker


_SHARE_MAX = 10.0
_TURNS: pytest.StashKey[TurnTaker] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an experiment."""
    group = parser.getgroup("lakegauge")
    # Given by `lakegauge ab` and `calibrate` to the runs they start.
    group.addoption("--take-turns", type=int, default=None, help=argparse.SUPPRESS)
    group.addoption(
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


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the experiment which cases are to come."""
    descriptor = session.config.option.take_turns
    if descriptor is None or session.config.option.collectonly:
        return
    from harness.reports.experiments.turns import TurnTaker

    turns = session.config.stash[_TURNS] = TurnTaker(descriptor)
    turns.announce([item.nodeid for item in session.items])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for this run's turn; what the others do meanwhile disturbs nobody."""
    from harness.reports.fixtures import is_benchmark
    from harness.reports.hooks import STATE

    state = item.config.stash.get(STATE, None)
    watch = state.watch if state is not None else None
    if item.config.stash.get(_TURNS, None) is not None:
        _wait_for_turn(item)
    if watch is not None:
        watch.resume()
    elif state is not None and is_benchmark(item):
        from harness.reports.environment import EnvironmentWatch

        state.watch = EnvironmentWatch()
    return (yield)


def _wait_for_turn(
    item: pytest.Item, processes: Sequence[psutil.Process] | None = None
) -> None:
    """Let the others work; what they do meanwhile is no disturbance of this run."""
    from harness.reports.hooks import STATE

    state = item.config.stash.get(STATE, None)
    watch = state.watch if state is not None else None
    if watch is not None:
        watch.pause()
    try:
        item.config.stash[_TURNS].take(item.nodeid)
    except ReportError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.INTERRUPTED)
    if watch is not None:
        watch.resume(processes)


def pytest_unconfigure() -> None:
    """Leave nothing behind for another session of this process."""
    inject_slowdown(None)


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say that the case was slowed down."""
    share = _share_of(item.config)
    return None if share is None else {"slowed_down": share}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Slow down what pytest-benchmark times itself; the load engine does its own.

    Such a case also passes on its turn between two rounds, if all runs can do that.
    """
    turns = item.config.stash.get(_TURNS, None)
    in_slices = turns is not None and turns.in_slices
    share = _share_of(item.config)
    if share is None and not in_slices:
        return
    from harness.reports.bridge import (
        before_each_round,
        repeat_calibration,
        slow_down_rounds,
    )
    from harness.reports.fixtures import RECORDING_FIXTURES

    names = set(getattr(item, "fixturenames", ()))
    fixture = getattr(item, "funcargs", {}).get("benchmark")
    if fixture is None or names & RECORDING_FIXTURES:
        return
    if share is not None:
        slow_down_rounds(fixture)
    if in_slices:
        before_each_round(fixture, _slices_of(item))
        repeat_calibration(fixture)


def _slices_of(item: pytest.Item) -> Callable[[], None]:
    """Return what passes on the turn once it has lasted for a slice."""
    from harness.load.surroundings import own_processes
    from harness.reports.experiments.turns import SLICE_S

    slice_ns = int(SLICE_S * NS_PER_S)
    now = SYSTEM_CLOCK.monotonic_ns
    ends_ns = now() + slice_ns
    processes: list[psutil.Process] = []

    def pass_on() -> None:
        nonlocal ends_ns
        if now() >= ends_ns:
            processes.extend([] if processes else own_processes())
            _wait_for_turn(item, processes)
            ends_ns = now() + slice_ns

    return pass_on


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
