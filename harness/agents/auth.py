"""Who asks: the Authorization header of every request, and its renewal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import ConfigError, CredentialError
from harness.settings.redaction import redact, remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

    from harness.settings import DatabricksSettings

# The SDK's own patience is five minutes; a call has a deadline of its own.
SDK_HTTP_TIMEOUT_S = 5.0
SDK_RETRY_TIMEOUT_S = 3
MASK = "**********"
TOKEN_LENGTH_MIN = 4  # as in settings/redaction.py


class Authorization(Protocol):
    """What a client asks of its credentials; safe to share by threads."""

    @property
    def blocks(self) -> bool:
        """Whether `header` may wait for the network."""
        ...

    @property
    def renewable(self) -> bool:
        """Whether there may be another token after one was refused."""
        ...

    def header(self) -> str:
        """Return the value of the Authorization header for one request."""
        ...

    def renew(self) -> None:
        """Forget a token that was refused."""
        ...

    def scrub(self, text: str) -> str:
        """Return *text* without any token of ours."""
        ...


class StaticToken:
    """One bearer token that never changes, such as a personal access token.

    Raises:
        ConfigError: If no header can carry it.
    """

    blocks = False
    renewable = False

    def __init__(self, token: SecretStr) -> None:
        if not _fits_a_header(token.get_secret_value()):
            msg = (
                "the token is empty or holds blanks, line ends or other characters "
                "that no header can carry; set DATABRICKS_TOKEN to the token alone"
            )
            raise ConfigError(msg)
        self._token = token

    def header(self) -> str:
        """Return the header."""
        return f"Bearer {self._token.get_secret_value()}"

    def renew(self) -> None:
        """Do nothing: there is only this one."""

    def scrub(self, text: str) -> str:
        """Return *text* without the token."""
        secret = self._token.get_secret_value()
        # A shorter one is no token, and a part of many words.
        return text.replace(secret, MASK) if len(secret) >= TOKEN_LENGTH_MIN else text


class ProvidedToken:
    """A bearer token that a function gives, asked for every request.

    Args:
        provider: Returns the token; called from the thread that asks the agent.
    """

    blocks = True
    renewable = True

    def __init__(self, provider: Callable[[], str | SecretStr]) -> None:
        self._provider = provider
        self._last = ""

    def header(self) -> str:
        """Return the header with the provider's token.

        Raises:
            CredentialError: If there is none.
        """
        try:
            given: Any = self._provider()
        except Exception as error:  # noqa: BLE001 - a provider is anybody's code
            kind = type(error).__name__
        else:
            token = given.get_secret_value() if _is_secret(given) else given
            if isinstance(token, str) and _fits_a_header(token):
                if token != self._last:
                    # From here on masked wherever text passes through `redact`.
                    remember([token])
                    self._last = token
                return f"Bearer {token}"
            kind = "it gave nothing that a header can carry"
        # Outside the except block: foreign exceptions may hold what they sent.
        msg = f"the token provider failed: {kind}"
        raise CredentialError(msg)

    def renew(self) -> None:
        """Do nothing: the provider is asked again anyway."""

    def scrub(self, text: str) -> str:
        """Return *text* without tokens."""
        return redact(text)


class SdkLogin:
    """OAuth of a service principal, or a profile, through databricks-sdk.

    The SDK keeps the token and renews it before it expires.

    Args:
        arguments: For `databricks.sdk.config.Config`.

    Raises:
        ConfigError: If databricks-sdk is not installed.
        CredentialError: If the workspace gives no token.
    """

    blocks = True

    def __init__(self, **arguments: Any) -> None:
        try:
            from databricks.sdk.config import Config
        except ModuleNotFoundError as error:
            msg = (
                "logging in with OAuth or a profile needs databricks-sdk: "
                "run `pip install 'lakegauge[databricks]'`"
            )
            raise ConfigError(msg) from error
        _silence_debug_log()
        self._last = ""
        self._config = self._guarded(
            lambda: Config(
                **arguments,
                product="lakegauge",
                http_timeout_seconds=SDK_HTTP_TIMEOUT_S,
                retry_timeout_seconds=SDK_RETRY_TIMEOUT_S,
            )
        )

    @property
    def host(self) -> str:
        """Address of the workspace."""
        return str(self._config.host or "")

    def header(self) -> str:
        """Return the header with the token of now.

        Raises:
            CredentialError: If the workspace gives none.
        """
        headers = self._guarded(self._config.authenticate)
        header = str(headers.get("Authorization", ""))
        if header != self._last:
            remember([header.rpartition(" ")[2]])
            self._last = header
        return header

    @property
    def renewable(self) -> bool:
        """Whether the login can give another token: a fixed one cannot."""
        return bool(self._config.auth_type != "pat")

    def renew(self) -> None:
        """Forget the token; the next request gets a new one."""
        self._guarded(self._config.init_auth)

    def scrub(self, text: str) -> str:
        """Return *text* without tokens."""
        return redact(text)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a login must not end in a traceback
            lines = redact(str(error)).strip().splitlines()
            said = f"{type(error).__name__}: {lines[0][:200]}" if lines else ""
        # Outside the except block: the SDK's exceptions hold request headers.
        msg = (
            "cannot log in to the workspace: check DATABRICKS_WORKSPACE_URL and "
            "DATABRICKS_CLIENT_ID with DATABRICKS_CLIENT_SECRET, or "
            f"DATABRICKS_CONFIG_PROFILE ({said or 'no reason given'})"
        )
        raise CredentialError(msg)


def login_of(databricks: DatabricksSettings, *, host: str | None) -> SdkLogin | None:
    """Return the login that the settings describe beside a token; None if none.

    Args:
        databricks: The identity.
        host: Address of the workspace, if the settings of the agent tell it.
    """
    where = {"host": host or databricks.workspace_url}
    if databricks.client_id and databricks.client_secret:
        return SdkLogin(
            # Named, since the SDK reads the environment too and will not choose.
            auth_type="oauth-m2m",
            client_id=databricks.client_id,
            client_secret=databricks.client_secret.get_secret_value(),
            **where,
        )
    if databricks.config_profile:
        return SdkLogin(profile=databricks.config_profile)
    return None


def _fits_a_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and token.split() == [token]


def _is_secret(value: object) -> bool:
    return hasattr(value, "get_secret_value")


def _silence_debug_log() -> None:
    """Keep the SDK from logging answers, tokens among them, at level DEBUG."""
    logger = logging.getLogger("databricks.sdk")
    if _above_debug not in logger.filters:
        logger.addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
