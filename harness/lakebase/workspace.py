"""The workspace: what databricks-sdk says about a database, and its tokens."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from databricks.sdk import WorkspaceClient, errors
from databricks.sdk.clock import Clock as SdkClock
from databricks.sdk.config import Config
from databricks.sdk.errors.base import DatabricksError
from google.protobuf.duration_pb2 import (  # type: ignore[import-untyped] # no stubs
    Duration,
)
from pydantic import SecretStr

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import (
    Classification,
    CredentialError,
    ErrorCategory,
    Severity,
    Verdict,
)
from harness.lakebase.classify import classify_workspace
from harness.lakebase.credentials import Credential, expiry_of
from harness.settings.redaction import redact, remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.settings import Settings

    Value = TypeVar("Value")

# The SDK's own budget is five minutes, in which every login would stand still.
HTTP_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 15.0
DISCOVERY_TIMEOUT_S = 3

CHECK_IDENTITY = (
    "the workspace does not accept the identity: check "
    "DATABRICKS_PERSONAL_ACCESS_TOKEN, or DATABRICKS_CLIENT_ID and _SECRET"
)
ASK_PERMISSION = (
    "the identity has no permission: ask for CAN USE on the database project or "
    "instance"
)
CHECK_NAME = (
    "there is no such database in this workspace: check LAKEBASE_ENDPOINT or "
    "LAKEBASE_INSTANCE_NAME, and DATABRICKS_WORKSPACE_URL"
)
CHECK_URL = (
    "no workspace answers there: check DATABRICKS_WORKSPACE_URL and the identity"
)
# The first class that fits wins; subclasses first.
ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (errors.Unauthenticated, CHECK_IDENTITY),
    (errors.PermissionDenied, ASK_PERMISSION),
    (errors.NotFound, CHECK_NAME),
    (errors.TooManyRequests, "the workspace limits the rate: try again later"),
    (errors.TemporarilyUnavailable, "the workspace is unavailable: try again later"),
    (errors.DeadlineExceeded, "the workspace took too long: try again later"),
    (DatabricksError, "the workspace refused"),
    # What requests and the SDK raise for no answer, and for one that is no JSON.
    (OSError, CHECK_URL),
    (ValueError, CHECK_URL),
    # What the SDK trips over when an answer has another shape than it knows.
    (Exception, "the answer is not understood: is DATABRICKS_WORKSPACE_URL right?"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a database is.

    Attributes:
        host: Host name for reading and writing, without a pooler in between.
        state: What the service says it is doing, such as "ACTIVE".
        cu_max: Compute units it may grow to; None where the service does not tell.
    """

    host: str | None
    state: str
    cu_max: float | None = None


class Workspace:
    """A workspace client that gives up in seconds and says why in our words.

    Args:
        settings: Where the workspace is and who we are there.
        clock: Times the calls.
        call_timeout_s: Longest time for one call with its retries, in seconds.

    Raises:
        CredentialError: The settings do not suffice to log in.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock = SYSTEM_CLOCK,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._call_timeout_s = call_timeout_s
        self._deadline = DeadlineClock(clock)
        _silence_debug_log()
        arguments = _login(settings)
        try:
            config = Config(
                **arguments,
                clock=self._deadline,
                product="lakegauge",
                http_timeout_seconds=min(HTTP_TIMEOUT_S, call_timeout_s),
                retry_timeout_seconds=DISCOVERY_TIMEOUT_S,
            )
        except ValueError:
            # Its text lists the whole configuration.
            config = None
        if config is None:
            msg = (
                "cannot log in to the workspace: set DATABRICKS_WORKSPACE_URL and "
                "DATABRICKS_PERSONAL_ACCESS_TOKEN, or DATABRICKS_CLIENT_ID and "
                "DATABRICKS_CLIENT_SECRET, or DATABRICKS_CONFIG_PROFILE"
            )
            raise CredentialError(msg)
        config.retry_timeout_seconds = max(1, round(call_timeout_s))
        self.client = WorkspaceClient(config=config)

    def user_name(self) -> str:
        """Return the Postgres role of the identity: its e-mail or application id."""
        user = self.call("ask who we are", self.client.current_user.me)
        if not user.user_name:
            msg = "the workspace does not tell our user name: set LAKEBASE_USER"
            raise CredentialError(msg)
        return user.user_name

    def endpoint_address(self, name: str) -> Address:
        """Return where an Autoscaling endpoint is."""
        endpoint = self.call(
            f"find endpoint {name!r}", lambda: self.client.postgres.get_endpoint(name)
        )
        status = endpoint.status
        state = status.current_state if status else None
        if status and status.disabled:
            msg = f"endpoint {name!r} is disabled: enable it in the workspace"
            raise CredentialError(msg)
        return Address(
            host=status.hosts.host if status and status.hosts else None,
            state=state.value if state else "unknown",
            cu_max=status.autoscaling_limit_max_cu if status else None,
        )

    def instance_address(self, name: str) -> Address:
        """Return where a Provisioned instance is."""
        instance = self.call(
            f"find instance {name!r}",
            lambda: self.client.database.get_database_instance(name),
        )
        return Address(
            host=instance.read_write_dns,
            state=instance.state.value if instance.state else "unknown",
        )

    def mint_for_endpoint(self, name: str, *, ttl_s: int) -> Credential:
        """Mint a token for an Autoscaling endpoint that lives for *ttl_s* seconds."""
        minted_at = self._clock.now()
        answer = self.call(
            f"mint a token for endpoint {name!r}",
            lambda: self.client.postgres.generate_database_credential(
                name, ttl=Duration(seconds=ttl_s)
            ),
        )
        return _credential(answer.token, answer.expire_time, minted_at=minted_at)

    def mint_for_instance(self, name: str) -> Credential:
        """Mint a token for a Provisioned instance; its lifetime is the service's."""
        minted_at = self._clock.now()
        answer = self.call(
            f"mint a token for instance {name!r}",
            lambda: self.client.database.generate_database_credential(
                instance_names=[name]
            ),
        )
        return _credential(answer.token, answer.expiration_time, minted_at=minted_at)

    def call(self, doing: str, call: Callable[[], Value]) -> Value:
        """Make one call within its deadline.

        Args:
            doing: What it does, for the message: "list the projects".
            call: Asks the SDK.

        Raises:
            CredentialError: It failed; the message says why and what to do.
        """
        try:
            with self._deadline.within(self._call_timeout_s):
                return call()
        except Exception as error:  # noqa: BLE001 - a login must not end in a traceback
            cause = _cause(error)
            message = _explain(doing, cause)
            classification = _classify(cause)
            retry_after_s = getattr(cause, "retry_after_secs", None)
        # Outside the except block: the SDK's exceptions hold request headers.
        raise CredentialError(
            message, classification=classification, retry_after_s=retry_after_s
        )


class DeadlineClock(SdkClock):
    """The SDK's clock, with an end to its patience.

    A `Retry-After` of ten minutes makes the SDK sleep for ten minutes, whatever its
    own budget is; here a sleep beyond the deadline fails at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._local = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Bound the sleeps of this thread for the length of the block."""
        self._local.deadline_s = self.time() + seconds
        try:
            yield
        finally:
            del self._local.deadline_s

    def time(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.now().timestamp()

    def sleep(self, seconds: float) -> None:
        """Sleep, unless that would pass the deadline."""
        deadline_s = getattr(self._local, "deadline_s", None)
        if deadline_s is not None and self.time() + seconds > deadline_s:
            msg = f"asked to wait {seconds:.0f} s before the next attempt"
            raise TimeoutError(msg)
        self._clock.sleep(seconds)


def _login(settings: Settings) -> dict[str, Any]:
    """Return what the SDK needs to log in, with the method named.

    Named, because the SDK reads the environment as well and refuses to choose
    between two methods it finds there.
    """
    databricks = settings.databricks
    host = {"host": databricks.workspace_url} if databricks.workspace_url else {}
    for secret in (databricks.personal_access_token, databricks.oauth_token):
        if secret is not None:
            return {**host, "auth_type": "pat", "token": secret.get_secret_value()}
    if databricks.client_id and databricks.client_secret:
        return {
            **host,
            "auth_type": "oauth-m2m",
            "client_id": databricks.client_id,
            "client_secret": databricks.client_secret.get_secret_value(),
        }
    profile = databricks.config_profile
    return {**host, **({"profile": profile} if profile else {})}


def _credential(token: str | None, expiry: Any, *, minted_at: Any) -> Credential:
    if not token:
        msg = "the workspace answered without a token"
        raise CredentialError(msg)
    # From here on it is masked wherever text passes through `redact`.
    remember([token])
    return Credential(
        token=SecretStr(token),
        minted_at=minted_at,
        expires_at=expiry_of(expiry, minted_at=minted_at),
    )


def _cause(error: BaseException) -> BaseException:
    """Return what the SDK was retrying for, which its deadline hides."""
    cause = error
    while isinstance(cause, TimeoutError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__ or cause
    return cause


def _classify(cause: BaseException) -> Classification:
    found = classify_workspace(cause, errors)
    # Before it answers it has done nothing that must not be done again: a token too
    # many does no harm.
    if found is None:
        verdict = Verdict.RETRYABLE if isinstance(cause, OSError) else Verdict.PERMANENT
        return Classification(ErrorCategory.NETWORK, Severity.HIGH, verdict)
    if found.verdict is Verdict.OUTCOME_UNKNOWN:
        return found._replace(verdict=Verdict.RETRYABLE)
    return found


def _explain(doing: str, cause: BaseException) -> str:
    """Say why a call failed, by the class of the SDK's exception."""
    advice = next(text for kind, text in ADVICE if isinstance(cause, kind))
    if isinstance(cause, DatabricksError):
        lines = redact(str(cause)).strip().splitlines()
        said = f" ({type(cause).__name__}: {lines[0][:200]})" if lines else ""
    else:
        said = f" ({type(cause).__name__})"
    return f"cannot {doing}: {advice}{said}"


def _silence_debug_log() -> None:
    """Keep the SDK from logging answers, tokens among them, at level DEBUG."""
    logger = logging.getLogger("databricks.sdk")
    if _above_debug not in logger.filters:
        logger.addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
