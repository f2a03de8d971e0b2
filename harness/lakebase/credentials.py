"""Credentials: what Postgres takes as a password, until when, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import CredentialError

if TYPE_CHECKING:
    from pydantic import SecretStr

# A token is replaced in the last fifth of its life, at most five minutes early:
# one of an hour after 55 minutes, one of five minutes after four.
REFRESH_SHARE = 0.2
REFRESH_AHEAD_MAX = timedelta(minutes=5)
# Never handed out this close to its end: the login itself takes time.
EXPIRY_MARGIN_SHARE = 0.05
EXPIRY_MARGIN_MAX = timedelta(seconds=10)
# What the service grants at least; taken where it does not say when a token ends.
LIFETIME_MIN = timedelta(seconds=300)


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """What Postgres takes as a password, and until when.

    Attributes:
        token: The password; masked in every repr.
        minted_at: When it was asked for.
        expires_at: When logins with it begin to fail; None for never.
    """

    token: SecretStr
    minted_at: datetime
    expires_at: datetime | None

    @property
    def refresh_at(self) -> datetime | None:
        """From when on a replacement is asked for while this one still works."""
        if self.expires_at is None:
            return None
        return self.expires_at - self.refresh_ahead

    @property
    def refresh_ahead(self) -> timedelta:
        """How long before its end a replacement is asked for."""
        if self.expires_at is None:
            return timedelta(0)
        ahead = (self.expires_at - self.minted_at) * REFRESH_SHARE
        return min(ahead, REFRESH_AHEAD_MAX)

    def is_usable(self, now: datetime) -> bool:
        """Whether a login started now may still succeed."""
        if self.expires_at is None:
            return True
        margin = (self.expires_at - self.minted_at) * EXPIRY_MARGIN_SHARE
        return now < self.expires_at - min(margin, EXPIRY_MARGIN_MAX)


@dataclass(frozen=True, kw_only=True, slots=True)
class CredentialStatus:
    """What may be shown of a credential; nothing of it is secret.

    Attributes:
        minted_at: When the token in use was asked for; None before the first.
        age_s: How old it is, in seconds.
        expires_at: When logins with it begin to fail; None for never.
        next_refresh_at: When its replacement is asked for; None for never.
        is_usable: Whether a login started now may succeed with it.
        mints_count: Tokens minted.
        failures_count: Mints that failed.
        invalidated_count: Tokens dropped because a server refused them.
        last_failure: Why the latest mint failed; None if it did not.
        refreshes_in_background: Whether a thread replaces it before it ends.
    """

    minted_at: datetime | None
    age_s: float | None
    expires_at: datetime | None
    next_refresh_at: datetime | None
    is_usable: bool
    mints_count: int
    failures_count: int
    invalidated_count: int
    last_failure: str | None
    refreshes_in_background: bool


class Credentials(Protocol):
    """Where the password of the next login comes from."""

    def credential(self) -> Credential:
        """Return a credential that is good for a login now.

        Raises:
            CredentialError: There is none.
        """
        ...

    async def credential_async(self) -> Credential:
        """Return the same without blocking the event loop."""
        ...

    def invalidate(self, token: str) -> bool:
        """Drop a token that a server has refused; True if another may be had."""
        ...

    def status(self) -> CredentialStatus:
        """Return what may be shown."""
        ...

    def close(self) -> None:
        """End whatever runs in the background; safe to call twice."""
        ...


class StaticCredentials:
    """A password that somebody set and that does not expire.

    Args:
        password: The password.
        clock: Says when it was given.
    """

    def __init__(self, password: SecretStr, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._credential = Credential(
            token=password, minted_at=clock.now(), expires_at=None
        )

    def credential(self) -> Credential:
        """Return the password."""
        return self._credential

    async def credential_async(self) -> Credential:
        """Return the password."""
        return self._credential

    def invalidate(self, token: str) -> bool:  # noqa: ARG002 - the protocol's
        """Return False: there is no other password."""
        return False

    def status(self) -> CredentialStatus:
        """Return what may be shown."""
        given_at = self._credential.minted_at
        return CredentialStatus(
            minted_at=given_at,
            age_s=(self._clock.now() - given_at).total_seconds(),
            expires_at=None,
            next_refresh_at=None,
            is_usable=True,
            mints_count=0,
            failures_count=0,
            invalidated_count=0,
            last_failure=None,
            refreshes_in_background=False,
        )

    def close(self) -> None:
        """Do nothing: nothing runs."""


def expiry_of(value: Any, *, minted_at: datetime) -> datetime:
    """Return the API's expiry, of either product, as an aware time in UTC.

    Args:
        value: ISO 8601 text (Provisioned), a protobuf Timestamp (Autoscaling), or
            None where the service does not say.
        minted_at: When the token was asked for.

    Raises:
        CredentialError: It is none of these.
    """
    if value is None:
        return minted_at + LIFETIME_MIN
    if isinstance(value, str):
        try:
            expires_at = datetime.fromisoformat(value)
        except ValueError:
            msg = f"the service gave an expiry that is no ISO time: {value!r}"
            raise CredentialError(msg) from None
    elif hasattr(value, "ToDatetime"):
        expires_at = value.ToDatetime(tzinfo=UTC)
    else:
        msg = f"the service gave an expiry of unknown type {type(value).__name__}"
        raise CredentialError(msg)
    if expires_at.tzinfo is None:
        expires_at = expires_at.replace(tzinfo=UTC)
    return expires_at.astimezone(UTC)
