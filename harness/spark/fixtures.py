"""The `spark` fixture, its options, and what a record says about Spark."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError, SparkError
from harness.settings.fixtures import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

    from harness.load.runner import Spread
    from harness.spark.jars import DeltaJars
    from harness.spark.java import Java
    from harness.spark.lab import Lab, Run
    from harness.spark.session import RunningSpark

    # What a local session is made of; the options are those of the class archive.
    Tools = tuple[Java, DeltaJars, tuple[str, ...]]

_TOOLS: pytest.StashKey[Tools | None] = pytest.StashKey()
_QUICK: pytest.StashKey[bool] = pytest.StashKey()
_RUNNING: pytest.StashKey[RunningSpark] = pytest.StashKey()
_SKIPPED: pytest.StashKey[str] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which Spark to use."""
    group = parser.getgroup("lakegauge")
    group.addoption(
        "--spark-remote",
        default=None,
        metavar="ADDRESS",
        help="Spark Connect server to use instead of a local JVM, sc://host:port; "
        "an address with a token belongs into LAKEGAUGE_SPARK_REMOTE",
    )
    group.addoption(
        "--delta-jars",
        default=None,
        metavar="FOLDER",
        help="folder of Delta's jars (setting LAKEGAUGE_SPARK_DELTA_JARS)",
    )
    group.addoption(
        "--load-on",
        choices=("local", "spark"),
        default="local",
        help="where load is made by cases that use `spread_load`: processes of this "
        "machine (default), or executors of LAKEGAUGE_SPARK_MASTER",
    )


def pytest_lakegauge_preflight(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find Java and Delta's jars, fetching what is missing, before any work."""
    _check_load(config, items)
    users = [item for item in items if _uses_spark(item)]
    if users:
        try:
            _tools(config)
        except _NoJarsError as error:
            _skip_all(config, users, str(error))
    # Nothing here is measured to be compared: then a short run is all that counts.
    config.stash[_QUICK] = config.getoption("--smoke") or not any(
        "benchmark" in getattr(item, "fixturenames", ()) for item in users
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose session lacks what it needs, with the name of what is missing.

    Raises:
        ConfigError: If a test asks for a capability that does not exist.
    """
    from harness.spark.backends import Capability, backend_of, needed_by

    if not _uses_spark(item):
        return
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    needed = needed_by(tuple(names))
    if "lab" in getattr(item, "fixturenames", ()):
        needed.add(Capability.FILES)
    settings = settings_of(item.config).spark
    backend = backend_of(
        master=settings.master,
        remote=settings.remote.get_secret_value() if settings.remote else None,
        has_storage=settings.storage is not None,
    )
    reason = backend.missing(needed)
    if reason is not None:
        pytest.skip(reason)


def pytest_report_collectionfinish(
    config: pytest.Config, items: list[pytest.Item]
) -> list[str]:
    """Say which Spark the run is going to start, and where its parts come from."""
    if config.option.collectonly or not any(_uses_spark(item) for item in items):
        return []
    if (skipped := config.stash.get(_SKIPPED, None)) is not None:
        return [skipped]
    from harness.spark.jars import installed_versions

    spark = settings_of(config).spark
    tools = _tools(config)
    if tools is None:
        return [f"spark: {installed_versions().spark} client, over Spark Connect"]
    java, jars, _ = tools
    line = (
        f"spark: {installed_versions().spark} {spark.master}, "
        f"delta {jars.version} ({jars.found}), Java {java.version} ({java.found})"
    )
    return [line]


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Return the versions that were measured, once they are known."""
    running = item.config.stash.get(_RUNNING, None)
    if running is None or not _uses_spark(item):
        return None
    return running.facts() | ({"load_on": "spark"} if _spreads(item) else {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what starting Spark cost, or how many tests went without it."""
    skipped = terminalreporter.config.stash.get(_SKIPPED, None)
    if skipped is not None:
        terminalreporter.write_line(skipped, red=True, bold=True)
    running = terminalreporter.config.stash.get(_RUNNING, None)
    if running is not None:
        terminalreporter.write_line(
            f"spark: session started in {running.start_time_s:.1f} s"
        )


@pytest.fixture(scope="session")
def spark(pytestconfig: pytest.Config) -> Iterator[SparkSession]:
    """Spark with Delta: one session for the whole run, local unless told otherwise."""
    from harness.spark.backends import connect_threads
    from harness.spark.connect_server import connect_server
    from harness.spark.quick import CONF, JAVA_OPTIONS
    from harness.spark.remote import remote_session
    from harness.spark.session import local_session

    settings = settings_of(pytestconfig).spark
    with ExitStack() as stack:
        if settings.remote is not None:
            opened = remote_session(settings.remote.get_secret_value())
        else:
            java, jars, archive = _tools(pytestconfig) or _find(pytestconfig)
            quick = pytestconfig.stash.get(_QUICK, False)
            threads = connect_threads(settings.master)
            if threads is None:
                opened = local_session(
                    java=java,
                    jars=jars,
                    master=settings.master,
                    driver_memory=settings.driver_memory,
                    quick=quick,
                    java_options=archive,
                    extra_conf=_extra_conf(pytestconfig),
                )
            else:
                server = stack.enter_context(
                    connect_server(
                        java=java,
                        jars=jars,
                        threads=threads,
                        driver_memory=settings.driver_memory,
                        java_options=[*archive, *(JAVA_OPTIONS if quick else ())],
                        extra_conf=CONF if quick else None,
                    )
                )
                opened = remote_session(
                    server.address, server=settings.master, jvm_pid=server.pid
                )
        running = stack.enter_context(opened)
        pytestconfig.stash[_RUNNING] = running
        yield running.session


@pytest.fixture
def lab(
    request: pytest.FixtureRequest,
    spark: SparkSession,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lab]:
    """Runs streaming queries over fresh folders, and measures them.

    A query left running would be in the next test's figures: it fails this one.
    """
    from pyspark.cloudpickle import register_pickle_by_value

    from harness.spark.lab import Lab

    # Sinks and processors of a scenario run where its module cannot be imported.
    register_pickle_by_value(request.module)  # type: ignore[no-untyped-call] # untyped in pyspark
    running = pytestconfig.stash[_RUNNING]
    storage = settings_of(pytestconfig).spark.storage

    def make_folder() -> Path:
        if storage is None:
            return tmp_path_factory.mktemp("lab")
        return Path(tempfile.mkdtemp(prefix="lakegauge-", dir=storage))

    yield Lab(spark, make_folder, jvm_pid=running.jvm_pid)
    left = [query.name for query in spark.streams.active]
    for query in spark.streams.active:
        query.stop()
    if left:
        pytest.fail(f"streaming queries still running: {left}", pytrace=False)


@pytest.fixture
def record_stream(record_durations: Callable[..., None]) -> Callable[..., None]:
    """Return a function that files a run of streaming queries as this benchmark.

    `record_stream(run, warmup_count=1, details=None, invalid=None)`. The values are
    CPU seconds per million rows, one for each micro-batch after the warm-up; where
    the JVM is another's, the durations of the micro-batches.
    """

    def record(run: Run, **about: Any) -> None:
        from harness.spark.stream_record import measured

        record_durations(**measured(run, **about))

    return record


@pytest.fixture(scope="session")
def spread_load(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> Spread | None:
    """Where the processes of a load run are: `run_open_loop(..., spread=spread_load)`.

    Processes of this machine, which is None, or executors with `--load-on=spark`.
    """
    if pytestconfig.getoption("--load-on") == "local":
        return None
    from harness.spark.load import run_on_executors

    return partial(run_on_executors, request.getfixturevalue("spark"))


class _NoJarsError(SparkError):
    """Delta's jars are nowhere: what needs them is skipped, by name and counted."""


def _skip_all(config: pytest.Config, items: list[pytest.Item], reason: str) -> None:
    for item in items:
        item.add_marker(pytest.mark.skip(reason=f"no Delta: {reason}"))
    names = sorted({item.nodeid.partition("::")[0] for item in items})
    config.stash[_SKIPPED] = (
        f"spark: {len(items)} tests SKIPPED for want of Delta's jars, in "
        f"{', '.join(names)}: {reason}"
    )


def _check_load(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a place for the load that nobody would use, or that cannot be had."""
    if config.getoption("--load-on") == "local":
        return
    if settings_of(config).spark.remote is not None:
        msg = (
            "--load-on=spark cannot be combined with --spark-remote "
            "(LAKEGAUGE_SPARK_REMOTE): Spark Connect runs no barrier stages. Run "
            "pytest on the cluster's driver, or leave out one of the two"
        )
        raise ConfigError(msg)
    if not any(_spreads(item) for item in items):
        msg = (
            "--load-on=spark: no selected case uses the fixture `spread_load`, so all "
            "of their load would be made on this machine"
        )
        raise ConfigError(msg)


def _extra_conf(config: pytest.Config) -> dict[str, str]:
    if config.getoption("--load-on") == "local":
        return {}
    from harness.spark.load import SESSION_CONF

    return SESSION_CONF


def _spreads(item: pytest.Item) -> bool:
    """Whether the case makes its load on executors."""
    wanted = item.config.getoption("--load-on") == "spark"
    return wanted and "spread_load" in getattr(item, "fixturenames", ())


def _uses_spark(item: pytest.Item) -> bool:
    return "spark" in getattr(item, "fixturenames", ()) or _spreads(item)


def _tools(config: pytest.Config) -> Tools | None:
    """Return Java and the jars, found once; None where the JVM is another's."""
    if _TOOLS not in config.stash:
        settings = settings_of(config).spark
        config.stash[_TOOLS] = None if settings.remote else _find(config)
        if settings.remote:
            from harness.spark.remote import check_remote

            check_remote(settings.remote.get_secret_value())
    return config.stash[_TOOLS]


def _find(config: pytest.Config) -> Tools:
    from harness.spark.archive import archive_options
    from harness.spark.jars import find_jars
    from harness.spark.java import find_java

    def tell(line: str) -> None:
        _write(config, f"spark: {line}")

    settings = settings_of(config).spark
    java = find_java()
    try:
        jars = find_jars(
            java=java,
            folder=settings.delta_jars,
            cache=settings.ivy_cache,
            ivy_settings=settings.ivy_settings,
            tell=tell,
        )
    except SparkError as error:
        raise _NoJarsError(str(error)) from error
    return java, jars, archive_options(java, tell=tell)


def _write(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(line)


def pytest_lakegauge_live(item: pytest.Item) -> dict[str, Any] | None:
    """Say how the streams of an item are."""
    funcargs = getattr(item, "funcargs", {})
    session = funcargs.get("spark")
    if session is None:
        return None
    from harness.spark.live import live_streams

    lab: Lab | None = funcargs.get("lab")
    streams = live_streams(
        session,
        now=SYSTEM_CLOCK.now(),
        clocks_ahead_s=dict(lab.clocks_ahead_s) if lab else None,
    )
    return {"streams": streams}
