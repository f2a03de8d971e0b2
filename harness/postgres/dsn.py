"""A Postgres that already runs somewhere, named by a connection string."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import TargetError
from harness.postgres.connect import (
    NO_TLS_OFFERED,
    connect,
    describe_server,
)
from harness.postgres.plaintext import default_sslmode, forbidden_host
from harness.postgres.server import AttachedServer, ConnectArguments

if TYPE_CHECKING:
    from harness.settings import Settings

SETTING_PATH = "target.postgres_dsn"
TLS_MODES = ("require", "verify-ca", "verify-full")
FORM = "expected postgresql://user:password@host:port/database"


class DsnServer(AttachedServer):
    """A server that we use and neither start nor stop."""


def open_dsn(settings: Settings, *, reason: str) -> DsnServer:
    """Connect once to the server of the connection string, with TLS if it has any.

    Raises:
        TargetError: The string is not one, the server refuses, or it offers no TLS
            though TLS is required and its host is none of SSL_PLAINTEXT_HOSTS.
    """
    secret = settings.target.postgres_dsn
    setting = _setting_name(settings)
    if secret is None:
        msg = "--target=dsn needs a connection string in LAKEGAUGE_POSTGRES_DSN"
        raise TargetError(msg)
    arguments = parse_dsn(secret.get_secret_value(), setting=setting)
    wanted = arguments.get("sslmode") or default_sslmode()
    required = settings.security.ssl_require
    if required or wanted != "disable":
        arguments["sslmode"] = wanted if wanted in TLS_MODES else "require"
    try:
        connection = connect(arguments, setting=setting)
    except TargetError as error:
        if NO_TLS_OFFERED not in str(error) or wanted in TLS_MODES:
            raise
        host = forbidden_host(arguments, settings.security.plaintext_hosts)
        if required and host is not None:
            msg = (
                f"the server of {setting} offers no TLS; to send everything in the "
                f"clear name {host!r} in SSL_PLAINTEXT_HOSTS"
            )
            raise TargetError(msg) from None
        arguments["sslmode"] = "disable"
        connection = connect(arguments, setting=setting)
    with connection:
        info = describe_server(connection, target="dsn", reason=reason)
    return DsnServer(arguments=arguments, info=info)


def parse_dsn(text: str, *, setting: str) -> ConnectArguments:
    """Split a connection string into arguments, quoting none of it in an error.

    Raises:
        TargetError: It cannot be read, or reads differently from what was meant
            because of an unescaped character in the password.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    _, is_url, rest = text.partition("://")
    authority, *_ = re.split(r"[/?]", rest, maxsplit=1)
    path, *_ = rest[len(authority) :].partition("?")
    if is_url and (authority.count("@") > 1 or "@" in path):
        msg = (
            f"{setting}: escape @ : / ? and # in user and password as %40 %3A %2F "
            f"%3F and %23; {FORM}"
        )
        raise TargetError(msg)
    message = f"{setting} is not a connection string; {FORM}"
    try:
        arguments = ConnectArguments(conninfo_to_dict(text))
    except psycopg.Error:
        arguments = None
    # Checked here because libpq would quote what it could not read, and that may
    # be a piece of the password.
    if arguments is None or not re.fullmatch(r"[\d,]*", str(arguments.get("port", ""))):
        raise TargetError(message)
    return arguments


def _setting_name(settings: Settings) -> str:
    name = settings.source_of(SETTING_PATH).name
    return name or "LAKEGAUGE_POSTGRES_DSN"
