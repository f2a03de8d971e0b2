"""Opening pooled connections: what is tried again, when, and what is never."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import ConfigError, TargetError, Verdict
from harness.postgres.classify import Phase, classify
from harness.postgres.plaintext import WEAK_MODES, default_sslmode, forbidden_host

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from harness.postgres.pool import PoolConfig
    from harness.postgres.server import ConnectArguments, Server

# While the pool is being opened: only a server that is coming up is waited for.
COMING_UP_CLASS = "57"

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 2.0

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """The library that opens and closes the connections of a pool."""

    def open(self) -> tuple[Any, Any]:
        """Return a psycopg connection, and what `close` needs beside it.

        Raises:
            HarnessError: It could not be opened.
        """
        ...

    def close(self, connection: Any, handle: Any) -> None:
        """Close a connection, dead or alive; never raises what the driver does."""
        ...

    def is_alive(self, connection: Any, *, timeout_s: float | None) -> bool:
        """Look whether a connection still works.

        Args:
            connection: One that is idle.
            timeout_s: How long the server may take to answer a ping; None looks
                only at what has arrived, without a round trip.
        """
        ...

    def clean(self, connection: Any) -> bool:
        """Make a returned connection fit for the next caller; False if it is not."""
        ...

    def listen(self, connection: Any, signs: list[str]) -> None:
        """Add the SQLSTATE of whatever the server says unasked to *signs*."""
        ...

    def inspect(self, connection: Any) -> None:
        """Check the server behind the first connection.

        Raises:
            ConfigError: The pool cannot work with it as it is configured.
        """
        ...

    def uptime_s(self, connection: Any) -> float:
        """Ask how long the server has been up, in seconds."""
        ...


class AsyncEngine(Protocol):
    """The same for tasks."""

    def open(self) -> Awaitable[tuple[Any, Any]]:
        """Return a psycopg connection, and what `close` needs beside it."""
        ...

    def close(self, connection: Any, handle: Any) -> None:
        """Close a connection, dead or alive; never raises what the driver does."""
        ...

    def is_alive(self, connection: Any, *, timeout_s: float | None) -> Awaitable[bool]:
        """Look whether a connection still works."""
        ...

    def clean(self, connection: Any) -> Awaitable[bool]:
        """Make a returned connection fit for the next caller; False if it is not."""
        ...

    def listen(self, connection: Any, signs: list[str]) -> None:
        """Add the SQLSTATE of whatever the server says unasked to *signs*."""
        ...

    def inspect(self, connection: Any) -> Awaitable[None]:
        """Check the server behind the first connection."""
        ...

    def uptime_s(self, connection: Any) -> Awaitable[float]:
        """Ask how long the server has been up, in seconds."""
        ...


def is_permanent(error: BaseException) -> bool:
    """Whether to try again would meet the same refusal."""
    return classify(error, phase=Phase.CONNECT).verdict is Verdict.PERMANENT


def is_final_at_start(error: BaseException) -> bool:
    """Whether a pool that is being opened gives up; nobody waits at a wrong door."""
    state = getattr(error, "sqlstate", None) or ""
    return not state.startswith(COMING_UP_CLASS)


def backoff_s(attempt: int) -> float:
    """Return how long to wait after failure number *attempt*, counted from 0.

    Doubling, with half of it at random: pools of many processes that lost the same
    server must not come back in step.
    """
    longest: float = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(attempt, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load


def arguments_for(server: Server, config: PoolConfig) -> ConnectArguments:
    """Return arguments for one new pooled connection.

    Asked for at every physical connect, because a password may be a token that
    has been replaced since the last one.
    """
    return pooled(server.connect_arguments(), config)


async def arguments_for_async(server: Server, config: PoolConfig) -> ConnectArguments:
    """Return the same; the password is looked up without blocking the event loop."""
    ask = getattr(server, "connect_arguments_async", None)
    if ask is not None:
        return pooled(await ask(), config)
    return await asyncio.to_thread(arguments_for, server, config)


def pooled(arguments: ConnectArguments, config: PoolConfig) -> ConnectArguments:
    """Add to connect arguments what every connection of a pool has."""
    arguments["application_name"] = config.application_name
    if config.tls_required and forbidden_host(arguments, config.plaintext_hosts):
        mode = arguments.get("sslmode") or default_sslmode()
        # Else the login would be on its way before anybody looks.
        arguments["sslmode"] = "require" if mode in WEAK_MODES else mode
    # libpq counts whole seconds and reads 0 as "wait for ever".
    arguments["connect_timeout"] = max(2, round(config.connect_timeout_s))
    # A server behind a transaction pooler switches prepared statements off. The
    # pooler refuses logins with options, and a SET would reach other callers.
    is_pooled = arguments.get("prepare_threshold", 0) is None
    if config.statement_timeout_s and not is_pooled:
        # With the login, because a SET would cost every connect a round trip.
        limit = f"-c statement_timeout={round(config.statement_timeout_s * 1000)}"
        arguments["options"] = f"{arguments.get('options') or ''} {limit}".strip()
    return arguments


def prewarm_error(
    name: str, config: PoolConfig, *, opened: int, failure: Exception | None
) -> TargetError:
    """Say that the pool could not be filled in time."""
    because = f" ({failure})" if failure else ""
    return TargetError(
        f"pool {name!r} opened {opened} of {config.size_min} connections within "
        f"{config.prewarm_timeout_s:g} s{because}; raise "
        "BENCHMARK_MAX_POOL_INIT_TIME, or use a smaller DB_POOL_SIZE"
    )


# What the server has in all, what of it a role without privileges cannot have, and
# what others hold now: their pools' share is their affair, ours is counted already.
BUDGET = """SELECT current_setting('max_connections')::int,
    current_setting('superuser_reserved_connections')::int
    + coalesce(current_setting('reserved_connections', true)::int, 0),
    (SELECT count(*) FROM pg_stat_activity
     WHERE usesysid IS NOT NULL
     AND coalesce(backend_type, 'client backend') = 'client backend'
     AND application_name <> current_setting('application_name'))::int"""


class Compute(Protocol):
    """What runs the server, where that is known; its size sets a limit too."""

    @property
    def max_connections(self) -> int:
        """How many connections it takes."""
        ...

    def describe(self) -> str:
        """Return size and limit, for a message."""
        ...

    def that_takes(self, connections: int) -> Compute | None:
        """Return the smallest one that takes so many; None if none does."""
        ...


def check_budget(
    config: PoolConfig,
    *,
    max_connections: int,
    reserved: int,
    others: int = 0,
    compute: Compute | None = None,
) -> None:
    """Refuse a pool that the server could never fill; warn if it could not now.

    Connections of others come and go, so they are told and do not refuse.

    Args:
        config: The pool of one process, and the number of processes.
        max_connections: What the server says it takes.
        reserved: How many of them are for privileged roles.
        others: Connections that other applications hold now.
        compute: What runs the server; of two limits the lower one counts.

    Raises:
        ConfigError: All processes together ask for more than the server has.
    """
    limit, said = max_connections, f"max_connections={max_connections}"
    if compute is not None:
        limit = min(limit, compute.max_connections)
        said += f", {compute.describe()}"
    wanted, available = config.size_max * config.processes, limit - reserved
    asked = f"{config.processes} x {config.size_max} connections"
    known = f"{said}, {reserved} reserved, {others} in use by others"
    if wanted > available:
        raise ConfigError(
            f"{asked} are more than the server's {available} ({known}); "
            + _what_fits(config, available)
            + _larger(compute, wanted + reserved)
        )
    if wanted > available - others:
        logger.warning(
            "%s are more than the server has free now, %d (%s)",
            asked,
            max(0, available - others),
            known,
        )


def _what_fits(config: PoolConfig, available: int) -> str:
    largest = available // config.processes
    if largest < 1:
        return f"use at most {available} processes (DB_PROCESSES)"
    return f"use at most {largest} per process (DB_POOL_SIZE + DB_MAX_OVERFLOW)"


def _larger(compute: Compute | None, connections: int) -> str:
    if compute is None:
        return ", or a larger compute"
    larger = compute.that_takes(connections)
    if larger is None or larger.max_connections <= compute.max_connections:
        return ""
    return f", or a larger compute: {larger.describe()}"


def check_tls(connection: Any, config: PoolConfig) -> None:
    """Refuse a connection in the clear; the client's own state decides.

    Raises:
        ConfigError: TLS is required, this connection has none, and its host is none
            of `plaintext_hosts`.
    """
    pgconn = connection.pgconn
    if not config.tls_required or pgconn.ssl_in_use:
        return
    ends = {"host": pgconn.host.decode(), "hostaddr": pgconn.hostaddr.decode()}
    host = forbidden_host(ends, config.plaintext_hosts)
    if host is not None:
        msg = (
            f"the server {host!r} gave a connection without TLS, which "
            "SSL_REQUIRE=true forbids; use sslmode=require, or name the host in "
            "SSL_PLAINTEXT_HOSTS"
        )
        raise ConfigError(msg)
