"""Opening one connection, with a refusal said in words that help."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from harness.errors import TargetError
from harness.postgres.server import ServerInfo

if TYPE_CHECKING:
    import psycopg

    from harness.postgres.server import ConnectArguments

CONNECT_TIMEOUT_S = 8

# libpq hands over the server's refusal as text without its SQLSTATE, so the text
# is all there is to recognise it by. The first pattern found wins.
REFUSALS = (
    ("password authentication failed", "28P01", "check the user and the password"),
    ("no password supplied", "28P01", "add a password to the connection string"),
    ("no pg_hba.conf entry", "28000", "the server's pg_hba.conf must admit this host"),
    ("role .* does not exist", "28000", "check the user name"),
    ("is not permitted to log in", "28000", "grant the role LOGIN"),
    ("database .* does not exist", "3D000", "check the database name, or create it"),
    ("permission denied for database", "42501", "grant the role CONNECT"),
    (
        "too many (clients|connections)|remaining connection slots",
        "53300",
        "close connections, use smaller pools, or raise the server's limit",
    ),
    ("starting up", "57P03", "try again when it is up"),
    ("shutting down", "57P03", "start the server"),
    ("resolve host|translate host name", None, "check the host name"),
    ("refused", None, "check host and port, and that the server runs"),
    ("timeout expired", None, "check host, port and firewall"),
    ("certificate", None, "check sslrootcert and the host name in the certificate"),
    ("no such file or directory", None, "check the socket folder and the port"),
)
NO_TLS_OFFERED = "server does not support SSL"


def connect(
    arguments: ConnectArguments, *, setting: str | None = None
) -> psycopg.Connection[Any]:
    """Open one connection in autocommit mode.

    Args:
        arguments: What `Server.connect_arguments` returned.
        setting: Name of the setting the server came from, for the message.

    Raises:
        TargetError: The connection was refused or could not be made; the message
            has the server's own reason and never the password.
    """
    import psycopg

    try:
        return psycopg.connect(
            **{"connect_timeout": CONNECT_TIMEOUT_S, **arguments}, autocommit=True
        )
    except psycopg.Error as error:
        message = refusal(error, arguments, setting=setting)
    # Raised outside the except block: the driver's exception may quote what it
    # was given, and must not be printed along as the cause.
    raise TargetError(message)


def refusal(
    error: psycopg.Error, arguments: ConnectArguments, *, setting: str | None = None
) -> str:
    """Say why a connection failed, without any secret."""
    lines = _without_secrets(str(error), arguments).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    # Where the attempt went is said by us; keep what comes after the last of these.
    reason = reason.rsplit("FATAL:", 1)[-1].rsplit(" failed: ", 1)[-1].strip()
    sqlstate, advice = error.sqlstate, "check the connection settings"
    for pattern, state, hint in REFUSALS:
        if re.search(pattern, reason, re.IGNORECASE):
            sqlstate, advice = sqlstate or state, hint
            break
    where = ", ".join(
        f"{key}={arguments[key]}"
        for key in ("host", "port", "user", "dbname")
        if arguments.get(key) not in (None, "")
    )
    state = f" (SQLSTATE {sqlstate})" if sqlstate else ""
    source = f"; set by {setting}" if setting else ""
    return (
        f"cannot connect to Postgres ({where or 'defaults'}{source}): "
        f"{reason}{state}; {advice}"
    )


def tls_protocol(connection: psycopg.Connection[Any]) -> str | None:
    """Return the TLS protocol this connection really uses, or None.

    The client's own state decides: `sslmode=require` is silently ignored on a
    Unix socket, and behind a proxy `pg_stat_ssl` describes another connection.
    """
    if not connection.pgconn.ssl_in_use:
        return None
    row = connection.execute(
        "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    ).fetchone()
    return row[0] if row and row[0] else "TLS"


def describe_server(
    connection: psycopg.Connection[Any], *, target: str, reason: str
) -> ServerInfo:
    """Ask a server what a report must say about it."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('max_connections')"
    ).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return ServerInfo(
        target=target,
        reason=reason,
        # Debian adds its package version after a space.
        version=row[0].split()[0],
        tls=tls_protocol(connection),
        max_connections=int(row[1]),
    )


def _without_secrets(text: str, arguments: ConnectArguments) -> str:
    for key in ("password", "sslpassword"):
        secret = arguments.get(key)
        if secret:
            text = text.replace(str(secret), "***")
    return text
