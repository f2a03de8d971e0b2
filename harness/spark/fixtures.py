"""The `spark` fixture, its options, and what a record says about Spark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.settings.fixtures import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from harness.spark.jars import DeltaJars
    from harness.spark.java import Java
    from harness.spark.session import RunningSpark

_TOOLS: pytest.StashKey[tuple[Java, DeltaJars] | None] = pytest.StashKey()
_QUICK: pytest.StashKey[bool] = pytest.StashKey()
_RUNNING: pytest.StashKey[RunningSpark] = pytest.StashKey()


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


def pytest_lakegauge_preflight(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find Java and Delta's jars, fetching what is missing, before any work."""
    users = [item for item in items if _uses_spark(item)]
    if users:
        _tools(config)
    # Nothing here is measured to be compared: then a short run is all that counts.
    config.stash[_QUICK] = config.getoption("--smoke") or not any(
        "benchmark" in getattr(item, "fixturenames", ()) for item in users
    )


def pytest_report_collectionfinish(
    config: pytest.Config, items: list[pytest.Item]
) -> list[str]:
    """Say which Spark the run is going to start, and where its parts come from."""
    if config.option.collectonly or not any(_uses_spark(item) for item in items):
        return []
    from harness.spark.jars import installed_versions

    spark = settings_of(config).spark
    tools = _tools(config)
    if tools is None:
        return [f"spark: {installed_versions().spark} client, over Spark Connect"]
    java, jars = tools
    line = (
        f"spark: {installed_versions().spark} {spark.master}, "
        f"delta {jars.version} ({jars.found}), Java {java.version} ({java.found})"
    )
    return [line]


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Return the versions that were measured, once they are known."""
    running = item.config.stash.get(_RUNNING, None)
    return running.facts() if running and _uses_spark(item) else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what starting Spark cost: it is in no test's figures."""
    running = terminalreporter.config.stash.get(_RUNNING, None)
    if running is not None:
        terminalreporter.write_line(
            f"spark: session started in {running.start_time_s:.1f} s"
        )


@pytest.fixture(scope="session")
def spark(pytestconfig: pytest.Config) -> Iterator[SparkSession]:
    """Spark with Delta: one session for the whole run, local unless told otherwise."""
    from harness.spark.session import local_session, remote_session

    settings = settings_of(pytestconfig).spark
    if settings.remote is not None:
        opened = remote_session(settings.remote.get_secret_value())
    else:
        java, jars = _tools(pytestconfig) or _find(pytestconfig)
        opened = local_session(
            java=java,
            jars=jars,
            master=settings.master,
            driver_memory=settings.driver_memory,
            quick=pytestconfig.stash.get(_QUICK, False),
        )
    with opened as running:
        pytestconfig.stash[_RUNNING] = running
        yield running.session


def _uses_spark(item: pytest.Item) -> bool:
    return "spark" in getattr(item, "fixturenames", ())


def _tools(config: pytest.Config) -> tuple[Java, DeltaJars] | None:
    """Return Java and the jars, found once; None where the JVM is another's."""
    if _TOOLS not in config.stash:
        settings = settings_of(config).spark
        config.stash[_TOOLS] = None if settings.remote else _find(config)
        if settings.remote:
            from harness.spark.session import check_remote

            check_remote(settings.remote.get_secret_value())
    return config.stash[_TOOLS]


def _find(config: pytest.Config) -> tuple[Java, DeltaJars]:
    from harness.spark.jars import find_jars
    from harness.spark.java import find_java

    settings = settings_of(config).spark
    java = find_java()
    jars = find_jars(
        java=java,
        folder=settings.delta_jars,
        cache=settings.ivy_cache,
        ivy_settings=settings.ivy_settings,
        tell=lambda line: _write(config, f"spark: {line}"),
    )
    return java, jars


def _write(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(line)
