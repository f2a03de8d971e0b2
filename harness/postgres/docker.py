"""A Postgres in a container, through testcontainers."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import TargetError
from harness.postgres.connect import NO_TLS_OFFERED, connect, describe_server
from harness.postgres.embedded import SERVER_SETTINGS
from harness.postgres.engine import (
    engine_environment,
    find_engine,
    one_line,
    pull_image,
)
from harness.postgres.keeper import Keeper
from harness.postgres.server import ConnectArguments, ServerInfo, attach
from harness.postgres.tls import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.settings import Settings

USER = "lakegauge"
DATABASE = "postgres"
PORT = 5432
START_TIMEOUT_S = 90.0
POLL_S = 0.05
PREFIX = "lakegauge-postgres-"
# Those that make two targets differ for no reason; addresses are the image's.
SHARED_SETTINGS = (
    "max_connections",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
)
# Parallel queries share memory here; Docker's default is 64 MB.
SHM_SIZE = "256m"

# Where things are put in the container before its Postgres is initialised.
INSIDE = "/lakegauge"
TLS_SCRIPT_PATH = "/docker-entrypoint-initdb.d/lakegauge-tls.sh"
# The image's entry point runs it as the server's user, who alone may read the key.
TLS_SCRIPT = f"""\
cp {INSIDE}/server.crt {INSIDE}/server.key "$PGDATA"
chmod 600 "$PGDATA/server.key"
echo "ssl = on" >>"$PGDATA/postgresql.conf"
"""


class DockerServer:
    """A running Postgres in a container of our own."""

    def __init__(
        self,
        *,
        container: Any,
        keeper: Keeper,
        arguments: ConnectArguments,
        info: ServerInfo,
    ) -> None:
        self._container = container
        self._keeper = keeper
        self._arguments = arguments
        self.info = info

    def connect_arguments(self) -> ConnectArguments:
        """Return arguments for one new connection."""
        return ConnectArguments(self._arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets to use the server, never to stop it."""
        return attach, (self.connect_arguments(), self.info)

    def close(self) -> None:
        """Remove the container and our files; safe to call twice."""
        _remove(self._container)
        self._keeper.close()


def start_docker(
    settings: Settings,
    *,
    reason: str,
    notify: Callable[[str], None] = lambda _text: None,
    clock: Clock = SYSTEM_CLOCK,
) -> DockerServer:
    """Start a container and wait until its Postgres accepts connections.

    Args:
        settings: Name the image and the limit of its pull.
        reason: Why this target was taken.
        notify: Called with one line before the image is pulled.
        clock: Bounds the waiting.

    Raises:
        TargetError: There is no engine, no image, or the server does not start.
    """
    environment = engine_environment()
    engine = find_engine(environment)
    if engine.url is None:
        msg = f"{engine.problem}; start Docker, or use --target=embedded"
        raise TargetError(msg)
    try:
        from docker.errors import DockerException
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer
    except ImportError:
        msg = "target docker needs testcontainers: pip install 'lakegauge[docker]'"
        raise TargetError(msg) from None
    # Its cleaner is an image of its own to be pulled; our keeper does that work.
    testcontainers_config.ryuk_disabled = True
    image = settings.target.postgres_image
    keeper = Keeper(environment)
    container = None
    try:
        container = DockerContainer(
            image,
            docker_client_kw={
                "environment": {**environment, "DOCKER_HOST": engine.url}
            },
        )
        client = container.get_docker_client().client
        pull_image(
            client,
            container.image,
            timeout_s=settings.target.docker_pull_timeout_s,
            notify=notify,
            clock=clock,
        )
        launch = Launch(
            container=container, engine_url=engine.url, keeper=keeper, clock=clock
        )
        arguments, info = launch.start(reason=reason)
    except (DockerException, OSError) as error:
        _end(container, keeper)
        msg = f"Docker cannot start {image}: {one_line(error)}"
        raise TargetError(msg) from None
    except BaseException:
        _end(container, keeper)
        raise
    return DockerServer(
        container=container, keeper=keeper, arguments=arguments, info=info
    )


class Launch:
    """The steps from an image to a server that accepts connections.

    Args:
        container: A testcontainers container that was not started.
        engine_url: The engine it will run on.
        keeper: Removes the container and our files at the end.
        clock: Bounds the waiting.
    """

    def __init__(
        self, *, container: Any, engine_url: str, keeper: Keeper, clock: Clock
    ) -> None:
        self._container = container
        self._engine_url = engine_url
        self._keeper = keeper
        self._clock = clock
        self._password = secrets.token_urlsafe(24)
        self._certificate = make_certificate(clock=clock)
        folder = keeper.make_folder(tempfile.gettempdir(), PREFIX)
        self._root_certificate = folder / "server.crt"
        self._root_certificate.write_bytes(self._certificate.certificate_pem)

    def start(self, *, reason: str) -> tuple[ConnectArguments, ServerInfo]:
        """Start the container; return how to connect and what it is."""
        container = self._container
        name = PREFIX + secrets.token_hex(6)
        # Told before it exists: a kill between the two must not leave it behind.
        self._keeper.keep_container(name, engine=self._engine_url)
        container.with_name(name)
        # A file: a variable could be read in `docker inspect` and in /proc.
        container.with_envs(
            POSTGRES_USER=USER,
            POSTGRES_DB=DATABASE,
            POSTGRES_PASSWORD_FILE=f"{INSIDE}/password",
        )
        for path, content in (
            (f"{INSIDE}/password", self._password.encode()),
            (f"{INSIDE}/server.crt", self._certificate.certificate_pem),
            (f"{INSIDE}/server.key", self._certificate.key_pem),
            (TLS_SCRIPT_PATH, TLS_SCRIPT.encode()),
        ):
            container.with_copy_into_container(content, path, 0o644)
        command = ["postgres"]
        for key in SHARED_SETTINGS:
            command += ["-c", f"{key}={SERVER_SETTINGS[key]}"]
        container.with_command(command)
        container.with_kwargs(shm_size=SHM_SIZE)
        loopback = self._is_on_this_machine()
        # Docker's default opens the port to the whole network.
        container.ports[f"{PORT}/tcp"] = ("127.0.0.1", None) if loopback else None
        container.start()
        try:
            port = container.get_exposed_port(PORT)
        except OSError:  # a container that has ended has no ports
            raise self._ended() from None
        arguments = ConnectArguments(
            host="127.0.0.1" if loopback else container.get_container_host_ip(),
            port=port,
            user=USER,
            password=self._password,
            dbname=DATABASE,
            # The certificate is made for this container alone, so to trust no
            # other proves as much as the host name would.
            sslmode="verify-ca",
            sslrootcert=str(self._root_certificate),
        )
        info = self._wait_until_ready(arguments, reason=reason)
        return arguments, info

    def _is_on_this_machine(self) -> bool:
        """Tell whether a port that the engine opens on its loopback is ours too.

        It is not when we run in a container that was handed the engine's socket.
        """
        if not self._engine_url.startswith("unix://"):
            return False
        client = self._container.get_docker_client()
        if client.get_connection_mode().value == "docker_host":
            return True
        # We look like a container; but the engine's bridge may be our own.
        pools = client.client.networks.get("bridge").attrs["IPAM"]["Config"] or []
        return any(_is_own_address(_gateway(pool)) for pool in pools)

    def _wait_until_ready(
        self, arguments: ConnectArguments, *, reason: str
    ) -> ServerInfo:
        deadline_ns = self._clock.monotonic_ns() + int(START_TIMEOUT_S * NS_PER_S)
        while True:
            try:
                with connect(arguments) as connection:
                    return describe_server(connection, target="docker", reason=reason)
            except TargetError as error:
                refusal = str(error)
            if NO_TLS_OFFERED in refusal:
                # An image whose entry point knows no start-up scripts.
                arguments["sslmode"] = "disable"
                continue
            self._container.reload()
            if self._container.status in {"exited", "dead"}:
                raise self._ended()
            if self._clock.monotonic_ns() > deadline_ns:
                msg = f"the container did not answer: {refusal}"
                raise TargetError(msg)
            self._clock.sleep(POLL_S)

    def _ended(self) -> TargetError:
        """Quote the container's last words."""
        output, errors = self._container.get_logs()
        lines = (output + errors).decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else "it left no message"
        return TargetError(f"the Postgres container ended: {reason}")


def _gateway(pool: dict[str, str]) -> str:
    """Return the engine's own address on a network: the first one by default."""
    first = next(ipaddress.ip_network(pool["Subnet"]).hosts())
    return pool.get("Gateway", str(first))


def _is_own_address(address: str) -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _end(container: Any, keeper: Keeper) -> None:
    if container is not None:
        _remove(container)
    keeper.close()


def _remove(container: Any) -> None:
    """Remove a container; the keeper tries again if that fails."""
    from docker.errors import DockerException

    with suppress(DockerException, OSError):
        container.stop()
