"""pytest's side of the live view: a run says what it does while somebody watches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.reports.live import LiveBenchmark, LiveData

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.monitor.run_watch import RunWatch
    from harness.reports.live_file import LivePublisher

_VIEW = pytest.StashKey["RunView"]()


class RunView:
    """What this run does now; written by pytest's thread, read by the publisher's."""

    def __init__(self, session: pytest.Session, watch: RunWatch) -> None:
        self._started_at = SYSTEM_CLOCK.now()
        self._session = session
        self._watch = watch
        self.item: pytest.Item | None = None
        self.index = 0
        self.done_count = 0
        self.failed_count = 0

    def live(self) -> LiveData:
        """Return the case at work, and what its subjects do."""
        item = self.item
        benchmark = LiveBenchmark(
            started_at=self._started_at,
            state="running",
            case=item.nodeid if item else None,
            case_index=self.index or None,
            cases_total=len(self._session.items),
            cases_done=self.done_count,
            cases_failed=self.failed_count,
        )
        data = live_of(item, self._watch)
        return data.model_copy(update={"benchmark": benchmark})


def live_of(item: pytest.Item | None, watch: RunWatch) -> LiveData:
    """Return what the subjects of one item do now, and its load."""
    parts: dict[str, list[Any]] = {}
    if item is not None:
        for found in item.config.hook.pytest_lakegauge_live(item=item):
            for name, values in found.items():
                parts.setdefault(name, []).extend(values)
    pools = tuple(parts.get("pools", ()))
    data = LiveData(
        pool=pools[0] if pools else None,
        pools=pools,
        streams=tuple(parts.get("streams", ())),
        agents=tuple(parts.get("agents", ())),
    )
    return watch.completed(data, case=item.nodeid if item else None)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Publish while benchmarks run; a run without any is none to watch."""
    publisher = _start(session)
    try:
        return (yield)
    finally:
        if publisher is not None:
            publisher.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the case that begins."""
    view = item.config.stash.get(_VIEW, None)
    if view is not None:
        view.item = item
        view.index += 1


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Let go of its pools before they close."""
    view = item.config.stash.get(_VIEW, None)
    if view is not None:
        view.item = None


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Count what is done."""
    view = item.config.stash.get(_VIEW, None)
    if view is None or call.when != "call":
        return
    if call.excinfo is None:
        view.done_count += 1
    elif not call.excinfo.errisinstance(pytest.skip.Exception):
        view.failed_count += 1


def _start(session: pytest.Session) -> LivePublisher | None:
    config = session.config
    option = config.option
    if (
        hasattr(config, "workerinput")
        or option.collectonly
        or option.benchmark_disable
        or not any("benchmark" in getattr(i, "fixturenames", ()) for i in session.items)
    ):
        return None
    from harness.monitor.run_watch import RunWatch
    from harness.reports.hooks import STATE
    from harness.reports.live_file import LivePublisher

    state = config.stash.get(STATE, None)
    if state is None:
        return None
    view = config.stash[_VIEW] = RunView(session, RunWatch())
    publisher = LivePublisher(state.folder, pid=os.getpid(), collect=view.live)
    publisher.start()
    return publisher
