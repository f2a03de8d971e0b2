"""A Postgres of our own, started from binaries for the length of one run."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import TargetError
from harness.postgres.account import reachable_bin_dir, server_account
from harness.postgres.binaries import Binaries, find_binaries
from harness.postgres.connect import connect, describe_server
from harness.postgres.keeper import Keeper
from harness.postgres.server import ConnectArguments, ServerInfo, attach
from harness.postgres.tls import make_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from harness.settings import Settings

USER = "lakegauge"
DATABASE = "postgres"
HOST = "127.0.0.1"
MAX_CONNECTIONS = 400
# A benchmark of commits that does not flush measures something else, so fsync
# and synchronous_commit keep their defaults: on.
SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": str(MAX_CONNECTIONS),
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_destination": "stderr",
    "logging_collector": "off",
    "password_encryption": "scram-sha-256",
}
# Counts what each kind of statement cost the server; not in every distribution.
STATEMENTS = "pg_stat_statements"
FREE_SPACE_MIN_MB = 128
START_TIMEOUT_S = 60.0
START_ATTEMPTS = 5
POLL_S = 0.01
PREFIX = "lakegauge-postgres-"
# Passed on to the server; everything else in our environment is not its business.
PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")


class EmbeddedServer:
    """A running Postgres with its data in a temporary folder."""

    def __init__(
        self, *, keeper: Keeper, arguments: ConnectArguments, reason: str
    ) -> None:
        self._keeper = keeper
        self._arguments = arguments
        with connect(arguments) as connection:
            if STATEMENTS in _preloaded(connection):
                connection.execute(f"CREATE EXTENSION {STATEMENTS}")
            self.info: ServerInfo = describe_server(
                connection, target="embedded", reason=reason
            )

    def connect_arguments(self) -> ConnectArguments:
        """Return arguments for one new connection."""
        return ConnectArguments(self._arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets to use the server, never to stop it."""
        return attach, (self.connect_arguments(), self.info)

    def close(self) -> None:
        """Stop the server and remove its folder; safe to call twice."""
        self._keeper.close()


def start_embedded(
    settings: Settings,
    *,
    reason: str,
    tls: bool = True,
    max_connections: int = MAX_CONNECTIONS,
    clock: Clock = SYSTEM_CLOCK,
) -> EmbeddedServer:
    """Start a Postgres on a free loopback port.

    Args:
        settings: Where its binaries are.
        reason: Why this target was taken.
        tls: Whether it offers, and demands, TLS; a proxy before it may do that.
        max_connections: How many connections it takes.
        clock: Bounds the waiting.

    Raises:
        TargetError: It cannot be started; the message says why and what to do.
    """
    environment = _environment()
    binaries = find_binaries(settings.target.postgres_bin_dir, environment=environment)
    keeper = Keeper({**environment, **binaries.environment})
    try:
        launch = Launch(keeper=keeper, binaries=binaries, clock=clock)
        arguments, remark = launch.start(tls=tls, max_connections=max_connections)
        return EmbeddedServer(
            keeper=keeper, arguments=arguments, reason="; ".join([reason, *remark])
        )
    except BaseException:
        keeper.close()
        raise


class Launch:
    """The steps from binaries to a server that accepts connections.

    Args:
        keeper: Does the work that has to be undone at the end.
        binaries: What to start.
        clock: Bounds the waiting.
    """

    def __init__(self, *, keeper: Keeper, binaries: Binaries, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock
        self._account = server_account()
        self._password = secrets.token_urlsafe(24)
        self._folder = self._make_folder()
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._certificate = self._folder / "server.crt"
        try:
            self._bin = reachable_bin_dir(
                binaries.folder, account=self._account, copy_to=self._folder / "pg"
            )
        except OSError as error:
            raise _no_space(self._folder, str(error)) from None

    def start(
        self, *, tls: bool, max_connections: int
    ) -> tuple[ConnectArguments, list[str]]:
        """Return connect arguments and, if there is any, a remark for the header."""
        self._initialise()
        wanted = tls
        for _ in range(START_ATTEMPTS):
            port = _free_port()
            self._configure(port=port, tls=tls, max_connections=max_connections)
            self._keeper.start(
                [str(self._bin / "postgres"), "-D", str(self._data)],
                log=self._log,
                account=self._account.popen_arguments(),
            )
            if self._wait_until_ready():
                return self._arguments(port=port, tls=tls), (
                    [] if tls == wanted else ["its binaries have no OpenSSL"]
                )
            log = self._log.read_text(errors="replace")
            if "SSL is not supported by this build" in log:
                tls = False
            elif "could not bind" not in log:
                break
            self._log.unlink()
        raise self._failure("did not start")

    def _make_folder(self) -> Path:
        """Make the folder of this run where the server's user can reach it."""
        try:
            wanted = tempfile.gettempdir()
        except OSError as error:
            msg = f"no folder for temporary files: {error}; set TMPDIR to one"
            raise TargetError(msg) from None
        problem = ""
        for parent in dict.fromkeys((wanted, "/tmp", "/var/tmp")):  # noqa: S108
            if not self._account.can_enter(Path(parent).resolve()):
                problem = problem or f"user {self._account.name} cannot enter {parent}"
                continue
            free_mb = shutil.disk_usage(parent).free // 2**20
            if free_mb < FREE_SPACE_MIN_MB:
                raise _no_space(Path(parent), f"{free_mb} MB free")
            try:
                folder = self._keeper.make_folder(parent, PREFIX)
            except OSError as error:
                raise _no_space(Path(parent), error.strerror) from None
            self._account.own(folder)
            return folder.resolve()
        msg = f"no folder for an embedded Postgres: {problem}; set TMPDIR to another"
        raise TargetError(msg)

    def _initialise(self) -> None:
        password_file = self._folder / "password"
        self._write(password_file, self._password.encode())
        code = self._keeper.run(
            [
                str(self._bin / "initdb"),
                f"--pgdata={self._data}",
                f"--username={USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                # Its files need not survive a power cut; those of the run do.
                "--no-sync",
            ],
            log=self._log,
            account=self._account.popen_arguments(),
        )
        password_file.unlink(missing_ok=True)
        if code != 0:
            raise self._failure("could not be initialised")
        self._log.unlink()

    def _configure(self, *, port: int, tls: bool, max_connections: int) -> None:
        values = {**SERVER_SETTINGS, "max_connections": str(max_connections)}
        lines = [f"{name} = '{value}'" for name, value in values.items()]
        lines.append(f"port = {port}")
        if self._has_library(STATEMENTS):
            lines.append(f"shared_preload_libraries = '{STATEMENTS}'")
        if tls:
            key = self._folder / "server.key"
            if not key.exists():
                certificate = make_certificate(clock=self._clock)
                self._write(self._certificate, certificate.certificate_pem)
                self._write(key, certificate.key_pem)
            lines += [
                "ssl = on",
                f"ssl_cert_file = '{self._certificate}'",
                f"ssl_key_file = '{key}'",
            ]
        kind = "hostssl" if tls else "host"
        self._write(self._data / "lakegauge.conf", "\n".join(lines).encode())
        self._write(
            self._data / "pg_hba.conf",
            f"{kind} all all {HOST}/32 scram-sha-256\n".encode(),
        )
        self._write(self._data / "postgresql.conf", b"include = 'lakegauge.conf'\n")

    def _has_library(self, name: str) -> bool:
        """Tell whether the binaries come with a loadable library."""
        lib = self._bin.parent / "lib"
        return any(
            (folder / f"{name}.so").exists() for folder in (lib, lib / "postgresql")
        )

    def _wait_until_ready(self) -> bool:
        """Wait until the server accepts connections; False if it ended instead."""
        status = self._data / "postmaster.pid"
        deadline_ns = self._clock.monotonic_ns() + int(START_TIMEOUT_S * NS_PER_S)
        while self._keeper.returncode() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            # What pg_ctl goes by: the eighth line is the state of the server.
            if len(lines) >= 8 and lines[7].strip() == "ready":  # noqa: PLR2004
                return True
            if self._clock.monotonic_ns() > deadline_ns:
                what = f"was not ready after {START_TIMEOUT_S:.0f} s"
                raise self._failure(what)
            self._clock.sleep(POLL_S)
        return False

    def _arguments(self, *, port: int, tls: bool) -> ConnectArguments:
        arguments = ConnectArguments(
            host=HOST,
            # Also set, so that a PGHOSTADDR in the environment cannot redirect us.
            hostaddr=HOST,
            port=port,
            user=USER,
            password=self._password,
            dbname=DATABASE,
            sslmode="disable",
        )
        if tls:
            arguments |= {
                "sslmode": "verify-full",
                "sslrootcert": str(self._certificate),
            }
        return arguments

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file that only the server's user can read."""
        try:
            path.touch(mode=0o600)
            self._account.own(path)
            path.write_bytes(content)
        except OSError as error:
            raise _no_space(path.parent, error.strerror) from None

    def _failure(self, what: str) -> TargetError:
        """Quote the line of the log that says why."""
        try:
            log = self._log.read_text(errors="replace").splitlines()
        except OSError:
            log = []
        marks = ("FATAL:", "PANIC:", "error:", "ERROR:")
        telling = [line for line in log if any(mark in line for mark in marks)]
        reason = (telling or log or ["it left no message"])[-1].strip()
        if "No space left" in reason or "File too large" in reason:
            return _no_space(self._folder.parent, reason)
        return TargetError(
            f"the embedded Postgres {what}: {reason}; try --target=docker or dsn"
        )


def _preloaded(connection: psycopg.Connection[Any]) -> list[str]:
    row = connection.execute("SHOW shared_preload_libraries").fetchone()
    return [name.strip() for name in row[0].split(",")] if row else []


def _no_space(folder: Path, reason: str | None) -> TargetError:
    return TargetError(
        f"cannot keep an embedded Postgres in {folder}: {reason}; it needs about "
        f"{FREE_SPACE_MIN_MB} MB in the folder that TMPDIR names"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> Mapping[str, str]:
    """Return all the environment variables that keeper and server get."""
    from harness.settings import child_environment

    ours = child_environment()
    passed = {name: ours[name] for name in PASSED_VARIABLES if name in ours}
    return {**passed, "LC_ALL": "C", "TZ": "UTC"}
