"""A Spark session that is another's: over Spark Connect, or Databricks Connect."""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, SparkError
from harness.settings import redact
from harness.settings.redaction import MASK
from harness.spark.backends import DATABRICKS
from harness.spark.session import RunningSpark

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

_REMOTE_SETTING = "spark.remote (LAKEGAUGE_SPARK_REMOTE or --spark-remote)"
_CONNECT_PORT = 15002
_HTTPS_PORT = 443
_CONNECT_TIMEOUT_S = 20.0
_GRPC_SAID = re.compile(r'status = (?:StatusCode\.)?(\w+)\s+details = "(.*)"')
# Of an address, sc://host:port/;key=value;key=value, what is no secret.
_OPEN_PARAMETERS = ("session_id", "use_ssl", "user_agent", "user_id")


@contextmanager
def remote_session(
    address: str,
    *,
    server: str = "connect",
    jvm_pid: int | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[RunningSpark]:
    """Connect to a Spark Connect server; its Delta is the server's matter.

    Args:
        address: `sc://host:port/;token=...`; it may hold a secret. "databricks" asks
            Databricks Connect, which finds its workspace by itself.
        server: What a report calls it.
        jvm_pid: The server's process, where it is on this machine.
        clock: Measures how long connecting took.

    Raises:
        ConfigError: If it is no `sc://` address.
        SparkError: If the server does not answer.
    """
    from pyspark.cloudpickle import register_pickle_by_value

    import harness

    # The server runs our sinks and sources, and has no harness to import them from.
    register_pickle_by_value(harness)  # type: ignore[no-untyped-call] # untyped in pyspark
    begun_ns = clock.monotonic_ns()
    check_remote(address)
    try:
        session = _connected(address)
        version = session.version
        session.conf.set("spark.sql.shuffle.partitions", "2")
        session.conf.set("spark.sql.session.timeZone", "UTC")
    except (ConfigError, SparkError):
        raise
    except Exception as error:  # noqa: BLE001 - gRPC's and pyspark's are many
        _close_client()
        msg = f"{_REMOTE_SETTING}: {type(error).__name__}: {_told(error, address)}"
        raise SparkError(msg) from None
    try:
        yield RunningSpark(
            session=session,
            spark_version=version,
            delta_version="server",
            master=server,
            java_major=None,
            start_time_s=(clock.monotonic_ns() - begun_ns) / NS_PER_S,
            jvm_pid=jvm_pid,
        )
    finally:
        session.stop()


def _told(error: Exception, address: str) -> str:
    """Return what a server said, in one line and without what is secret in *address*.

    gRPC's errors are several lines, of which the first says nothing.
    """
    text = str(error)
    said = _GRPC_SAID.search(text)
    cause = f"{said[1]}: {said[2]}" if said else text.splitlines()[0]
    for parameter in address.partition("/;")[2].split(";"):
        key, _, value = parameter.partition("=")
        if value and key not in _OPEN_PARAMETERS:
            for form in (value, unquote(value)):
                cause = cause.replace(form, MASK)
    # "databricks" is a word of many messages, and no secret.
    return redact(cause if address == DATABRICKS else cause.replace(address, MASK))


def _close_client() -> None:
    """End a client that was refused: at exit, it would try again for ten minutes."""
    try:
        from pyspark.sql.connect.session import SparkSession
    except ImportError:
        return  # then there is none: what was told is what is missing

    session = SparkSession.getActiveSession()
    if session is not None:
        session.client.close()


def check_remote(address: str) -> None:
    """Check that something listens there: pyspark would try for ten minutes.

    Raises:
        ConfigError: If it is no `sc://` address.
        SparkError: If nothing listens.
    """
    if address == DATABRICKS:
        return
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or _CONNECT_PORT
    except ValueError:
        parts, host, port = None, None, 0
    if parts is None or parts.scheme != "sc" or not host:
        msg = f'{_REMOTE_SETTING}: must be sc://host:port, or "{DATABRICKS}"'
        raise ConfigError(msg)
    _check_answers(host, port, what="Spark Connect server")


def _check_answers(host: str, port: int, *, what: str) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        msg = f"{_REMOTE_SETTING}: no {what} answers at {host}:{port} ({error})"
        raise SparkError(msg) from error


def _connected(address: str) -> SparkSession:
    if address == DATABRICKS:
        return _databricks_session()
    from pyspark.sql import SparkSession

    return SparkSession.builder.remote(address).getOrCreate()


def _databricks_session() -> SparkSession:
    try:
        from databricks.connect import DatabricksSession
        from databricks.sdk.core import Config
    except ImportError as error:
        lacking = error.name in {"databricks", "databricks.connect"}
        said = "not installed" if lacking else f"installed, but not usable ({error})"
        msg = (
            f"{_REMOTE_SETTING}: databricks-connect is {said}; it takes the "
            "place of pyspark, in an environment of its own"
        )
        raise ConfigError(msg) from None
    # Left to itself the SDK tries a workspace that does not answer for five minutes.
    config = Config(retry_timeout_seconds=round(_CONNECT_TIMEOUT_S))
    parts = urlsplit(config.host)
    if parts.hostname:
        port = parts.port or _HTTPS_PORT
        _check_answers(parts.hostname, port, what="Databricks workspace")
    try:
        found: SparkSession = DatabricksSession.builder.sdkConfig(config).getOrCreate()
    except Exception as error:  # noqa: BLE001 - the SDK's and gRPC's are many
        said = f"{type(error).__name__}: {_told(error, DATABRICKS)}"
        for secret in filter(None, (config.token, config.client_secret)):
            said = said.replace(secret, MASK)
        msg = f"{_REMOTE_SETTING}: {said}"
        raise SparkError(msg) from None
    return found
