"""Opening one connection, with a refusal said in words that help."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import (
    Classification,
    ErrorCategory,
    Severity,
    TargetError,
    Verdict,
)
from harness.postgres.server import ConnectArguments, ServerInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from harness.postgres.login import Refusal

CONNECT_TIMEOUT_S = 8.0
# How often a wait looks at the deadline and at Ctrl-C.
_WAIT_INTERVAL_S = 0.1

NO_TLS_OFFERED = "server does not support SSL"

# Invalid authorization: a wrong password, and a token that has ended.
_LOGIN_CLASS = "28"

# What to do about a refusal, by the server's code.
_ADVICE_BY_CODE = {
    "28P01": "check the user and the password",
    "28000": "check the user name, and that it may log in from this host",
    "3D000": "check the database name, or create it",
    "42501": "grant the role CONNECT",
    "53300": "close connections, use smaller pools, or raise the server's limit",
    "57P01": "try again when it is up",
    "57P03": "try again when it is up",
}
_CHECK_SETTINGS = "check the connection settings"
_TRANSIENT = Classification(ErrorCategory.NETWORK, Severity.HIGH, Verdict.RETRYABLE)
_MISCONFIGURED = Classification(
    ErrorCategory.CONFIGURATION, Severity.CRITICAL, Verdict.PERMANENT
)
# The same where there is no code, because no server answered: by how far it came.
_WITHOUT_CODE = {
    "name": (_TRANSIENT, "check the host name"),
    "time": (
        _TRANSIENT._replace(category=ErrorCategory.DATABASE_TIMEOUT),
        "check host, port and firewall",
    ),
    "network": (_TRANSIENT, "check host and port, and that the server runs"),
    "socket": (_TRANSIENT, "check the socket folder and the port"),
    "startup": (_TRANSIENT, "check that it is a Postgres, and its log"),
    "password": (
        Classification(
            ErrorCategory.AUTHENTICATION, Severity.CRITICAL, Verdict.PERMANENT
        ),
        "add a password to the connection string",
    ),
    "options": (_MISCONFIGURED, _CHECK_SETTINGS),
    "no TLS": (
        _MISCONFIGURED,
        "have it offer TLS, or name its host in SSL_PLAINTEXT_HOSTS",
    ),
    "certificate": (
        _MISCONFIGURED,
        "check sslrootcert and the host name in the certificate",
    ),
}
# libpq's own words, for the little that its state does not tell: whether TLS broke
# off or was refused, whether a socket is not there or an option is wrong.
_TLS_REFUSED = ("certificate", "SSL error")
_SOCKET_MISSING = ("No such file or directory", "Connection refused")


def connect(
    arguments: ConnectArguments,
    *,
    setting: str | None = None,
    timeout_s: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> psycopg.Connection[Any]:
    """Open one connection in autocommit mode.

    A server that refuses is asked once: neither another address of the same name
    nor a second try would change its answer. An address where nothing answers is
    followed by the next. Only a refused token is replaced, once, where the arguments
    know how to (`ConnectArguments.renew`).

    Args:
        arguments: What `Server.connect_arguments` returned.
        setting: Name of the setting the server came from, for the message.
        timeout_s: Longest time for all of it, in seconds; default what the
            arguments say, or 8.
        clock: Measures the time.

    Raises:
        TargetError: The connection was refused or could not be made, with the
            server's own code in `sqlstate`; the message has the server's own reason
            and never the password.
    """
    end_ns = _end_ns(arguments, timeout_s, clock)
    attempts = _Attempts(arguments, setting=setting, end_ns=end_ns, clock=clock)
    try:
        return _connect_once(attempts)
    except TargetError as error:
        renew = _renewal(arguments, error)
        if renew is None:
            raise
        password = renew(str(arguments.get("password", "")))
        if password is None:
            raise
    renewed = ConnectArguments({**arguments, "password": password})
    return _connect_once(
        _Attempts(renewed, setting=setting, end_ns=end_ns, clock=clock)
    )


async def connect_async(
    arguments: ConnectArguments,
    *,
    setting: str | None = None,
    timeout_s: float | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> psycopg.AsyncConnection[Any]:
    """Do what `connect` does without blocking the event loop.

    Raises:
        TargetError: As `connect`.
    """
    end_ns = _end_ns(arguments, timeout_s, clock)
    attempts = _Attempts(arguments, setting=setting, end_ns=end_ns, clock=clock)
    try:
        return await _connect_once_async(attempts)
    except TargetError as error:
        renew = _renewal(arguments, error)
        if renew is None:
            raise
        password = await asyncio.to_thread(renew, str(arguments.get("password", "")))
        if password is None:
            raise
    renewed = ConnectArguments({**arguments, "password": password})
    return await _connect_once_async(
        _Attempts(renewed, setting=setting, end_ns=end_ns, clock=clock)
    )


def _connect_once(attempts: _Attempts) -> psycopg.Connection[Any]:
    import psycopg
    from psycopg.waiting import wait_conn

    from harness.postgres.login import LoginRefusedError, log_in

    for conninfo in attempts.over(attempts.addresses()):
        try:
            pgconn = wait_conn(
                log_in(conninfo, check_time=attempts.check_time), _WAIT_INTERVAL_S
            )
        except LoginRefusedError as error:
            attempts.note(error.refusal)
            continue
        connection = psycopg.Connection[Any](pgconn)
        connection.autocommit = True
        connection.prepare_threshold = attempts.prepare_threshold
        return connection
    raise attempts.error()


async def _connect_once_async(attempts: _Attempts) -> psycopg.AsyncConnection[Any]:
    import psycopg
    from psycopg.waiting import wait_conn_async

    from harness.postgres.login import LoginRefusedError, log_in

    for conninfo in attempts.over(await attempts.addresses_async()):
        try:
            pgconn = await wait_conn_async(
                log_in(conninfo, check_time=attempts.check_time), _WAIT_INTERVAL_S
            )
        except LoginRefusedError as error:
            attempts.note(error.refusal)
            continue
        connection = psycopg.AsyncConnection[Any](pgconn)
        await connection.set_autocommit(True)
        connection.prepare_threshold = attempts.prepare_threshold
        return connection
    raise attempts.error()


def _renewal(
    arguments: ConnectArguments, error: TargetError
) -> Callable[[str], str | None] | None:
    """Return how to replace a refused password, if it was that and can be."""
    if not (error.sqlstate or "").startswith(_LOGIN_CLASS):
        return None
    # Arguments that somebody changed with `|` are a plain dictionary.
    return getattr(arguments, "renew", None)


def _end_ns(arguments: ConnectArguments, timeout_s: float | None, clock: Clock) -> int:
    given_s = float(arguments.get("connect_timeout") or CONNECT_TIMEOUT_S)
    timeout_s = given_s if timeout_s is None else timeout_s
    return clock.monotonic_ns() + round(timeout_s * NS_PER_S)


class _Attempts:
    """The addresses of one server, the time there is, and the last refusal."""

    def __init__(
        self,
        arguments: ConnectArguments,
        *,
        setting: str | None,
        end_ns: int,
        clock: Clock,
    ) -> None:
        self._arguments = arguments
        self._setting = setting
        self._clock = clock
        parameters = dict(arguments)
        self.prepare_threshold = parameters.pop("prepare_threshold", 5)
        self._end_ns = end_ns
        self._attempt_end_ns = end_ns
        self._parameters = parameters
        self._refusal: Refusal | None = None

    def addresses(self) -> list[dict[str, Any]]:
        """Return the parameters of every address the host name has."""
        import psycopg
        from psycopg.conninfo import conninfo_attempts

        try:
            return list(conninfo_attempts(self._checked()))
        except psycopg.Error as error:
            self._note_before(error)
        return []

    async def addresses_async(self) -> list[dict[str, Any]]:
        """Return the same; names are resolved in a thread of the event loop."""
        import psycopg
        from psycopg.conninfo import conninfo_attempts_async

        try:
            return list(await conninfo_attempts_async(self._checked()))
        except psycopg.Error as error:
            self._note_before(error)
        return []

    def over(self, addresses: list[dict[str, Any]]) -> Iterator[str]:
        """Yield connection strings as long as another may do better.

        Each gets an equal share of the time that is left, so that one that is mute
        does not use up the time of those after it.
        """
        from psycopg.conninfo import make_conninfo

        for index, address in enumerate(addresses):
            now_ns = self._clock.monotonic_ns()
            left_ns = max(0, self._end_ns - now_ns)
            self._attempt_end_ns = now_ns + left_ns // (len(addresses) - index)
            yield make_conninfo("", **address)
            if self._refusal is not None and self._refusal.sqlstate is not None:
                return

    def check_time(self) -> None:
        """Give up on an address at the end of its time."""
        from harness.postgres.login import LoginRefusedError, Refusal

        if self._clock.monotonic_ns() >= self._attempt_end_ns:
            raise LoginRefusedError(
                Refusal(words="timeout expired", sqlstate=None, stage="time")
            )

    def note(self, refusal: Refusal) -> None:
        """Keep why the last address refused."""
        self._refusal = refusal

    def error(self) -> TargetError:
        """Say why no connection could be made, without any secret."""
        refusal = self._refusal
        assert refusal is not None  # noqa: S101 - every attempt ends with one
        words = _without_secrets(refusal.words, self._arguments)
        classification, advice = _meaning(refusal, self._arguments)
        where = ", ".join(
            f"{key}={self._arguments[key]}"
            for key in ("host", "port", "user", "dbname")
            if self._arguments.get(key) not in (None, "")
        )
        state = f" (SQLSTATE {refusal.sqlstate})" if refusal.sqlstate else ""
        source = f"; set by {self._setting}" if self._setting else ""
        return TargetError(
            f"cannot connect to Postgres ({where or 'defaults'}{source}): "
            f"{words}{state}; {advice}",
            sqlstate=refusal.sqlstate,
            classification=classification,
        )

    def _checked(self) -> dict[str, Any]:
        """Have libpq read the parameters, which names those it does not know."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        make_conninfo("", **self._parameters)
        return dict(conninfo_to_dict("", **self._parameters))

    def _note_before(self, error: psycopg.Error) -> None:
        """Note what keeps us from even beginning."""
        import psycopg

        from harness.postgres.login import Refusal

        is_name = isinstance(error, psycopg.OperationalError)
        lines = str(error).splitlines()
        self.note(
            Refusal(
                words=lines[0] if lines else type(error).__name__,
                sqlstate=None,
                stage="name" if is_name else "options",
            )
        )


def _meaning(
    refusal: Refusal, arguments: ConnectArguments
) -> tuple[Classification | None, str]:
    """Return what kind of refusal it is, where no code says so, and what to do."""
    if refusal.sqlstate is not None:
        return None, _ADVICE_BY_CODE.get(refusal.sqlstate, _CHECK_SETTINGS)
    stage, words = refusal.stage, refusal.words
    if stage == "tls":
        refused = any(part in words for part in _TLS_REFUSED)
        stage = "certificate" if refused else "startup"
        stage = "no TLS" if NO_TLS_OFFERED in words else stage
    elif stage == "options" and any(part in words for part in _SOCKET_MISSING):
        stage = "network"
    if stage == "network" and str(arguments.get("host") or "/").startswith(("/", "@")):
        stage = "socket"
    return _WITHOUT_CODE[stage]


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
