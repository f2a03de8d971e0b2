"""The Postgres a run is measured on, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class ConnectArguments(dict[str, Any]):
    """Keyword arguments for one `psycopg.connect`; never shows its password.

    Attributes:
        renew: Given a password that the server has refused, returns another, or None
            if there is none. Set where passwords are tokens that end; it stays
            behind when the arguments are copied or sent to another process.
    """

    renew: Callable[[str], str | None] | None = None

    def __repr__(self) -> str:
        """Show the arguments with the password masked."""
        shown = {k: "***" if k == "password" else v for k, v in self.items()}
        return f"ConnectArguments({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the arguments alone."""
        return ConnectArguments, (dict(self),)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What a report must say about the server, so that results can be compared.

    Attributes:
        target: Where it came from: "dsn", "docker", "embedded" or "lakebase".
        reason: Why this one was taken, as one clause for the header.
        version: `SHOW server_version`, such as "17.10".
        tls: Protocol in use, such as "TLSv1.3", or None without TLS.
        max_connections: `SHOW max_connections`.
    """

    target: str
    reason: str
    version: str
    tls: str | None
    max_connections: int


class Server(Protocol):
    """A running Postgres."""

    info: ServerInfo

    def connect_arguments(self) -> ConnectArguments:
        """Return arguments for one new connection; call it for each connection.

        A fresh call matters: on Lakebase the password is a token that expires.
        """
        ...

    def close(self) -> None:
        """Stop and remove what was started for this run; safe to call twice."""
        ...


class AttachedServer:
    """A server that somebody else started, or that another process looks after.

    What a server becomes when it is sent to another process.

    Args:
        arguments: How to connect.
        info: What is known of it.
    """

    def __init__(self, *, arguments: ConnectArguments, info: ServerInfo) -> None:
        self._arguments = arguments
        self.info = info

    def connect_arguments(self) -> ConnectArguments:
        """Return arguments for one new connection."""
        return ConnectArguments(self._arguments)

    def close(self) -> None:
        """Do nothing: nothing was started here."""


def attach(arguments: ConnectArguments, info: ServerInfo) -> AttachedServer:
    """Return a server by what is known of it; what a pickle calls."""
    return AttachedServer(arguments=arguments, info=info)
