"""The Lakebase target: a database of a workspace as the Postgres under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import ConfigError, TargetError
from harness.lakebase.computes import ComputeSize
from harness.lakebase.credentials import StaticCredentials
from harness.lakebase.lookup import database_of
from harness.lakebase.minting import MintedCredentials
from harness.postgres.connect import connect, describe_server
from harness.postgres.server import ConnectArguments, ServerInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.lakebase.credentials import (
        Credential,
        Credentials,
        CredentialStatus,
    )
    from harness.lakebase.workspace import Address, Workspace
    from harness.settings import Settings

POOLER_SUFFIX = "-pooler"
# RFC 6761: no name below it ever leaves the machine.
STANDIN_SUFFIX = ".localhost"


class LakebaseServer:
    """A Lakebase database; every login gets a password that is good now.

    Args:
        settings: Port, database and TLS mode.
        host: Host name.
        user: Postgres role.
        credentials: Where passwords come from.
        reason: Why this target was taken.
        info: What is known of it already; default is to log in and ask.
        reach: More for libpq, such as `hostaddr` for a name that resolves nowhere.

    Attributes:
        compute: The size its compute may grow to, where the workspace has told.
    """

    compute: ComputeSize | None = None

    def __init__(
        self,
        settings: Settings,
        *,
        host: str,
        user: str,
        credentials: Credentials,
        reason: str,
        info: ServerInfo | None = None,
        reach: Mapping[str, str] | None = None,
    ) -> None:
        lakebase = settings.lakebase
        self._settings = settings
        self._credentials = credentials
        self._reach = dict(reach or {})
        self._arguments = ConnectArguments(
            host=host,
            port=lakebase.port,
            dbname=lakebase.database,
            user=user,
            sslmode=lakebase.sslmode,
            **self._reach,
        )
        if is_pooled(host):
            # The pooler gives the next transaction another backend, which does not
            # know the statements this connection has prepared.
            self._arguments["prepare_threshold"] = None
        self.info: ServerInfo
        if info is not None:
            self.info = info
            return
        with connect(self.connect_arguments()) as connection:
            self.info = describe_server(connection, target="lakebase", reason=reason)

    def connect_arguments(self) -> ConnectArguments:
        """Return arguments for one new connection, with a fresh password.

        Raises:
            CredentialError: No token could be minted.
        """
        return self._arguments_with(self._credentials.credential())

    async def connect_arguments_async(self) -> ConnectArguments:
        """Return the same without blocking the event loop.

        Raises:
            CredentialError: No token could be minted.
        """
        return self._arguments_with(await self._credentials.credential_async())

    def credential_status(self) -> CredentialStatus:
        """Return what may be shown of the credential in use."""
        return self._credentials.status()

    def close(self) -> None:
        """End the refresh in the background; safe to call twice."""
        self._credentials.close()

    def _arguments_with(self, credential: Credential) -> ConnectArguments:
        arguments = ConnectArguments(
            {**self._arguments, "password": credential.token.get_secret_value()}
        )
        arguments.renew = self._renew
        return arguments

    def _renew(self, refused: str) -> str | None:
        """Return a token in place of one that the server has refused."""
        if not self._credentials.invalidate(refused):
            return None
        return self._credentials.credential().token.get_secret_value()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process logs in with tokens that it mints itself.

        A token that is sent would expire there, and nobody could replace it.
        """
        host, user = self._arguments["host"], self._arguments["user"]
        known = {"compute": self.compute}
        return _reopen, (self._settings, host, user, self.info, self._reach), known

    @property
    def is_standin(self) -> bool:
        """Whether it is a stand-in: the name is reserved for this machine itself."""
        return str(self._arguments["host"]).endswith(STANDIN_SUFFIX)


def start_lakebase(
    settings: Settings,
    *,
    clock: Clock = SYSTEM_CLOCK,
    reach: Mapping[str, str] | None = None,
) -> LakebaseServer:
    """Find the database, log in once and say what it is.

    Args:
        settings: Which endpoint, instance or host, and who logs in.
        clock: Decides which tokens have expired.
        reach: More for libpq; see `LakebaseServer`.

    Raises:
        ConfigError: A setting is missing, or a token would go to a pooled host.
        CredentialError: The workspace refuses.
        TargetError: The database refuses.
    """
    settings.check("lakebase")
    lakebase = settings.lakebase
    reason = _reason(settings)
    if lakebase.password is not None:
        # Checked above: a password comes with host and user.
        return LakebaseServer(
            settings,
            host=lakebase.host or "",
            user=lakebase.user or "",
            credentials=StaticCredentials(lakebase.password, clock=clock),
            reason=reason,
            reach=reach,
        )
    if lakebase.host is not None:
        _refuse_pooled(lakebase.host)
    workspace = _workspace(settings, clock=clock)
    address = None if lakebase.host else _address(workspace, settings)
    host = _host(address, settings) if address else lakebase.host or ""
    _refuse_pooled(host)
    server = LakebaseServer(
        settings,
        host=host,
        user=lakebase.user or settings.databricks.username or workspace.user_name(),
        credentials=_credentials(workspace, settings, clock=clock),
        reason=reason,
        reach=reach,
    )
    if address is not None and address.cu_max is not None:
        server.compute = ComputeSize(address.cu_max)
    return server


def _workspace(settings: Settings, *, clock: Clock) -> Workspace:
    try:
        from harness.lakebase.workspace import Workspace
    except ModuleNotFoundError as error:
        msg = f"no {error.name}: pip install 'lakegauge[databricks]'"
        raise TargetError(msg) from None

    return Workspace(settings, clock=clock)


def _reopen(
    settings: Settings, host: str, user: str, info: ServerInfo, reach: dict[str, str]
) -> LakebaseServer:
    """Return the same database in another process; what a pickle calls."""
    password = settings.lakebase.password
    credentials: Credentials
    if password is not None:
        credentials = StaticCredentials(password)
    else:
        workspace = _workspace(settings, clock=SYSTEM_CLOCK)
        credentials = _credentials(workspace, settings, clock=SYSTEM_CLOCK)
    return LakebaseServer(
        settings,
        host=host,
        user=user,
        credentials=credentials,
        reason=info.reason,
        info=info,
        reach=reach,
    )


def is_pooled(host: str) -> bool:
    """Whether a host name is that of the connection pooler (PgBouncer)."""
    return host.partition(".")[0].endswith(POOLER_SUFFIX)


def _refuse_pooled(host: str) -> None:
    if is_pooled(host):
        msg = (
            f"LAKEBASE_HOST={host!r} is the pooled host, which takes no OAuth token: "
            "use the direct host, or a Postgres role with LAKEBASE_USER and "
            "LAKEBASE_PASSWORD"
        )
        raise ConfigError(msg)


def _address(workspace: Workspace, settings: Settings) -> Address:
    name, is_instance = database_of(workspace, settings)
    if is_instance:
        return workspace.instance_address(name)
    return workspace.endpoint_address(name)


def _host(address: Address, settings: Settings) -> str:
    if address.host is None:
        lakebase = settings.lakebase
        name = lakebase.endpoint or lakebase.instance_name or lakebase.project
        msg = f"{name!r} has no host name yet (state {address.state}); try again later"
        raise TargetError(msg)
    return address.host


def _credentials(
    workspace: Workspace, settings: Settings, *, clock: Clock
) -> MintedCredentials:
    name, is_instance = database_of(workspace, settings)
    ttl_s = settings.lakebase.token_ttl_s

    def mint() -> Credential:
        if is_instance:
            return workspace.mint_for_instance(name)
        return workspace.mint_for_endpoint(name, ttl_s=ttl_s)

    credentials = MintedCredentials(mint, clock=clock)
    if settings.pool.enable_background_refresh:
        credentials.start_background()
    return credentials


def _reason(settings: Settings) -> str:
    for field in ("endpoint", "instance_name", "project", "host"):
        if getattr(settings.lakebase, field) is not None:
            source = settings.source_of(f"lakebase.{field}")
            return f"{source.name or source.layer} is set"
    return "named"
