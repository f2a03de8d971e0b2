"""The pytest plugin: options, our own hooks, and the rules that hold for every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = (
    "harness.settings.fixtures",
    "harness.reports.fixtures",
    "harness.reports.hooks",
    "harness.reports.verdict.fixtures",
    "harness.reports.page.fixtures",
    "harness.reports.experiments.fixtures",
    "harness.postgres.fixtures",
    "harness.lakebase.fixtures",
    "harness.lakebase.standin.fixtures",
    "harness.agents.fixtures",
    "harness.spark.fixtures",
    "harness.monitor.fixtures",
)


class HookSpecs:
    """The hooks by which the subjects take part in a run."""

    @pytest.hookspec
    def pytest_lakegauge_preflight(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Check, and start, what the collected items need before any of them runs.

        Raise a `HarnessError` to end the session as one usage error.
        """

    @pytest.hookspec
    def pytest_lakegauge_facts(self, item: pytest.Item) -> dict[str, Any] | None:
        """Return what the item measured, as flat facts; None if not our subject.

        Records whose facts differ are never compared.
        """

    @pytest.hookspec
    def pytest_lakegauge_live(self, item: pytest.Item) -> dict[str, Any] | None:
        """Return what the subject of the item at work does now, for who watches.

        Keys are `pools`, `streams` or `agents`, values lists of the models of
        `harness.reports.live`. Called only while somebody watches, from a thread that
        is not pytest's: it must not wait, and it may come while the item ends.
        """

    @pytest.hookspec(firstresult=True)
    def pytest_lakegauge_postgres_server(
        self, config: pytest.Config, settings: Any
    ) -> Any:
        """Start and return a `Server` for a target of an upper layer, or None."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make our hooks known."""
    pluginmanager.add_hookspecs(HookSpecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that concern more than one subject."""
    group = parser.getgroup("lakegauge")
    group.addoption(
        "--smoke",
        action="store_true",
        default=False,
        help="use small sizes: proves that every case runs; its figures are compared "
        "only with those of other smoke runs",
    )
    group.addoption(
        "--target",
        default=None,
        metavar="TARGET",
        help="Postgres to measure: auto, dsn, docker, embedded, lakebase, or a "
        "postgresql:// URL without a password (setting LAKEGAUGE_TARGET)",
    )
    group.addoption(
        "--pool",
        default=None,
        metavar="POOL",
        help="pool under test where a case does not choose: psycopg or queue "
        "(setting LAKEGAUGE_POOL)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Let every subject check what it needs, before any work starts."""
    config = session.config
    if config.option.collectonly or not session.items:
        return
    _refuse_parallel_benchmarks(config, session.items)
    try:
        config.hook.pytest_lakegauge_preflight(config=config, items=session.items)
        _configure_logging(config)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_benchmark_generate_machine_info() -> Generator[None, Any, Any]:
    """Let pytest-benchmark start its look at the processor without our secrets."""
    from harness.settings.environment import scrubbed_environment

    with scrubbed_environment():
        return (yield)


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_benchmark_generate_commit_info() -> Generator[None, Any, Any]:
    """Let pytest-benchmark ask git without our secrets."""
    from harness.settings.environment import scrubbed_environment

    with scrubbed_environment():
        return (yield)


def _configure_logging(config: pytest.Config) -> None:
    """Log as the settings say; lines for people are what pytest itself shows."""
    from harness.settings.fixtures import settings_of
    from harness.settings.logs import configure_logging

    monitoring = settings_of(config).monitoring
    configure_logging(monitoring, console=False)


def _refuse_parallel_benchmarks(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Refuse to "measure" under pytest-xdist.

    pytest-benchmark disables itself there without failing: nothing is measured,
    nothing is saved, and a regression gate passes. Only a worker knows what was
    selected, and only the controller can end the run, so the worker sends a failed
    collection, the one thing xdist passes on before the first test.
    """
    option = config.option
    if not hasattr(config, "workerinput") or option.benchmark_disable:
        return
    measuring = [
        i.nodeid for i in items if "benchmark" in getattr(i, "fixturenames", ())
    ]
    if measuring and not option.benchmark_skip:
        message = (
            f"{len(measuring)} benchmarks cannot run under pytest-xdist (first: "
            f"{measuring[0]}): several at once would measure each other. Leave out -n, "
            "or pass --benchmark-disable to only check that they run"
        )
        report = pytest.CollectReport(
            nodeid="", outcome="failed", longrepr=message, result=[], sections=[]
        )
        # xdist carries attributes of a report over to the controller.
        report.__dict__["lakegauge_refusal"] = message
        config.hook.pytest_collectreport(report=report)


class _RefusalListener:
    """Ends the run in xdist's controller when a worker refused to measure."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        refusal = getattr(report, "lakegauge_refusal", None)
        if refusal is not None:
            raise pytest.UsageError(refusal)


def pytest_configure(config: pytest.Config) -> None:
    """Listen to workers where there are any."""
    if getattr(config.option, "dist", "no") != "no":
        config.pluginmanager.register(_RefusalListener(), "lakegauge-refusal")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show an error of the harness as its message: it is written for the user."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, HarnessError):
        error = call.excinfo.value
        report.longrepr = f"{type(error).__name__}: {error}"
    return report
