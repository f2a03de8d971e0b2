"""Credentials: a token minted once for everybody, and replaced before it expires."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from harness.clock import SYSTEM_CLOCK, Clock
from harness.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import SecretStr

# A token is replaced in the last fifth of its life, at most five minutes early:
# one of an hour after 55 minutes, one of five minutes after four.
REFRESH_SHARE = 0.2
REFRESH_AHEAD_MAX = timedelta(minutes=5)
# Never handed out this close to its end: the login itself takes time.
EXPIRY_MARGIN_SHARE = 0.05
EXPIRY_MARGIN_MAX = timedelta(seconds=10)
# After a failed mint nobody tries again for so long: a pool asks in bursts.
RETRY_DELAY = timedelta(seconds=5)
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
        ahead = (self.expires_at - self.minted_at) * REFRESH_SHARE
        return self.expires_at - min(ahead, REFRESH_AHEAD_MAX)

    def is_usable(self, now: datetime) -> bool:
        """Whether a login started now may still succeed."""
        if self.expires_at is None:
            return True
        margin = (self.expires_at - self.minted_at) * EXPIRY_MARGIN_SHARE
        return now < self.expires_at - min(margin, EXPIRY_MARGIN_MAX)


class Credentials(Protocol):
    """Where the password of the next login comes from."""

    def credential(self) -> Credential:
        """Return a credential that is good for a login now.

        Raises:
            CredentialError: There is none.
        """
        ...


class StaticCredentials:
    """A password that somebody set and that does not expire.

    Args:
        password: The password.
        clock: Says when it was given.
    """

    def __init__(self, password: SecretStr, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._credential = Credential(
            token=password, minted_at=clock.now(), expires_at=None
        )

    def credential(self) -> Credential:
        """Return the password."""
        return self._credential


class MintedCredentials:
    """Tokens minted on demand: one at a time, however many threads ask.

    While a token is good, asking costs a lock. In the last part of its life one
    caller fetches the next while the others go on with the old one; only when
    there is none that works do all wait, for one and the same request. A failed
    request is shared in the same way, and not repeated at once.

    Args:
        mint: Asks the service for a credential; called by one thread at a time.
        clock: Decides what has expired.
    """

    def __init__(
        self, mint: Callable[[], Credential], *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._mint = mint
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Credential | None = None
        self._flight: Future[Credential] | None = None
        self._failure: tuple[datetime, CredentialError] | None = None
        self.minted = 0

    def credential(self) -> Credential:
        """Return a credential that is good for a login now.

        Raises:
            CredentialError: None could be minted and the last one has expired.
        """
        with self._lock:
            now = self._clock.now()
            current = self._current
            if current is not None and not current.is_usable(now):
                current = None
            if current is not None and not self._is_due(current, now):
                return current
            flight, leads = self._flight, False
            if flight is None:
                failure = self._recent_failure(now)
                if failure is None:
                    flight = self._flight = Future()
                    leads = True
                elif current is None:
                    raise failure
            if current is not None and not leads:
                return current
        assert flight is not None  # noqa: S101 - neither returned nor raised: it flies
        if leads:
            self._fly(flight)
        try:
            return flight.result()
        except CredentialError:
            if current is not None:
                return current
            raise

    def _fly(self, flight: Future[Credential]) -> None:
        """Mint, and let everybody who waits know how it went."""
        credential: Credential | None = None
        failure: BaseException | None = None
        try:
            credential = self._mint()
            if not credential.is_usable(self._clock.now()):
                msg = (
                    "the token had expired when it arrived: compare this machine's "
                    f"clock with the workspace's (expires {credential.expires_at})"
                )
                failure = CredentialError(msg)
        except BaseException as error:  # noqa: BLE001 - handed to everybody waiting
            failure = error
        with self._lock:
            self._flight = None
            if failure is None:
                self._current, self._failure = credential, None
                self.minted += 1
            elif isinstance(failure, CredentialError):
                self._failure = (self._clock.now(), failure)
        if failure is not None:
            flight.set_exception(failure)
        else:
            flight.set_result(_present(credential))

    def _is_due(self, current: Credential, now: datetime) -> bool:
        refresh_at = current.refresh_at
        return refresh_at is not None and now >= refresh_at

    def _recent_failure(self, now: datetime) -> CredentialError | None:
        if self._failure is None or now - self._failure[0] >= RETRY_DELAY:
            return None
        return self._failure[1]


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


def _present(credential: Credential | None) -> Credential:
    assert credential is not None  # noqa: S101 - no failure means there is one
    return credential
