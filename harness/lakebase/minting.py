"""Tokens minted on demand and ahead of time: one request, whoever and how many ask."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from random import SystemRandom
from typing import TYPE_CHECKING, Protocol

from harness.clock import NS_PER_MS, NS_PER_S, SYSTEM_CLOCK, Clock
from harness.errors import (
    Classification,
    CredentialError,
    ErrorCategory,
    Severity,
    Verdict,
)
from harness.lakebase.classify import classify
from harness.lakebase.credentials import Credential, CredentialStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

# The SDK's own patience is five minutes, in which every login would stand still.
MINT_TIMEOUT_S = 20.0
# Processes that started together must not refresh together: each is up to half of
# the time ahead earlier than it need be.
JITTER_SHARE = 0.5
# After a failed mint nobody tries again for so long, twice as long each time.
RETRY_DELAY_S = 5.0
RETRY_DELAY_MAX_S = 60.0
# Refused tokens are replaced no more often than that, whatever the server refuses.
INVALIDATE_INTERVAL_S = 1.0
# A refresh in the background looks at the clock at least so often: a laptop that
# slept wakes up with a token that is over.
LOOK_INTERVAL_S = 30.0

logger = logging.getLogger(__name__)


class Randomness(Protocol):
    """Where jitter comes from; pass `random.Random(seed)` to repeat a run."""

    def random(self) -> float:
        """Return a number from 0 up to 1."""
        ...


class MintedCredentials:
    """Tokens minted on demand: one at a time, whoever and however many ask.

    While a token is good, asking costs a lock. In the last part of its life one
    caller, or a thread in the background, fetches the next while everybody goes on
    with the old one; only when there is none that works do all wait, threads and
    tasks alike, for one and the same request. A failed request is shared in the same
    way; the next is made after a pause that doubles.

    Args:
        mint: Asks the service for a credential; runs in a thread of its own.
        clock: Decides what has expired.
        random: Source of the jitter.
        mint_timeout_s: Longest wait for a mint, in seconds; whatever hangs then is
            left behind.
    """

    def __init__(
        self,
        mint: Callable[[], Credential],
        *,
        clock: Clock = SYSTEM_CLOCK,
        random: Randomness | None = None,
        mint_timeout_s: float = MINT_TIMEOUT_S,
    ) -> None:
        self._mint = mint
        self._clock = clock
        self._random = random or SystemRandom()
        self._mint_timeout_s = mint_timeout_s
        self._lock = threading.Lock()
        self._current: Credential | None = None
        self._refresh_at: datetime | None = None
        self._flight: _Flight | None = None
        self._failure: CredentialError | None = None
        self._failures_in_row = 0
        self._retry_at_ns = 0
        self._invalidated_ns: int | None = None
        self._background: threading.Thread | None = None
        self._changed = threading.Event()
        self._closed = threading.Event()
        self.minted = 0
        self._failures = 0
        self._invalidated = 0

    def credential(self) -> Credential:
        """Return a credential that is good for a login now.

        Raises:
            CredentialError: None could be minted and the last one has expired.
        """
        current, flight = self._ask()
        if flight is None:
            return _present(current)
        try:
            return flight.future.result(timeout=self._patience_s(flight))
        except CredentialError:
            if current is not None:
                return current
            raise
        except WaitTimeoutError:
            error = self._abandon(flight)
        if current is not None:
            return current
        raise error

    async def credential_async(self) -> Credential:
        """Return the same without blocking the event loop.

        A task that is cancelled while it waits leaves the request to the others.

        Raises:
            CredentialError: As `credential`.
        """
        current, flight = self._ask()
        if flight is None:
            return _present(current)
        waiting = asyncio.shield(asyncio.wrap_future(flight.future))
        try:
            return await asyncio.wait_for(waiting, self._patience_s(flight))
        except CredentialError:
            if current is not None:
                return current
            raise
        except TimeoutError:
            error = self._abandon(flight)
        if current is not None:
            return current
        raise error

    def invalidate(self, token: str) -> bool:
        """Drop a token that a server has refused; True if another may be had.

        A token that has been replaced since is not the current one's fault. A server
        that refuses every token gets a new one once a second at most.
        """
        with self._lock:
            current = self._current
            if current is None:
                return True
            used = current.token.get_secret_value()
            if not hmac.compare_digest(used.encode(), token.encode()):
                return True
            now_ns = self._clock.monotonic_ns()
            last_ns = self._invalidated_ns
            if (
                last_ns is not None
                and now_ns - last_ns < INVALIDATE_INTERVAL_S * NS_PER_S
            ):
                return False
            self._invalidated_ns = now_ns
            self._invalidated += 1
            self._current = None
        logger.warning(
            "a server refused the token before its end; it is dropped",
            extra={
                "operation": "credentials.invalidate",
                "category": ErrorCategory.AUTHENTICATION.value,
            },
        )
        return True

    def refresh_if_due(self) -> float:
        """Fetch the next token if it is time; return seconds until the next look.

        What the thread in the background does; an application with a scheduler of
        its own may call it instead.
        """
        with self._lock:
            now = self._clock.now()
            refresh_at = self._refresh_at
            if self._current is None or refresh_at is None:
                # The first token is minted when it is needed, not before.
                return LOOK_INTERVAL_S
            if now < refresh_at:
                return min((refresh_at - now).total_seconds(), LOOK_INTERVAL_S)
            left_ns = self._retry_at_ns - self._clock.monotonic_ns()
            if self._failure is not None and left_ns > 0:
                return min(left_ns / NS_PER_S, LOOK_INTERVAL_S)
        with suppress(CredentialError):  # logged where it failed
            self.credential()
        return 0.0

    def start_background(self) -> None:
        """Replace tokens in a thread, so that no login waits for a mint."""
        with self._lock:
            if self._background is not None or self._closed.is_set():
                return
            closed, changed = self._closed, self._changed

            def wake(_owner: object) -> None:
                closed.set()
                changed.set()

            self._background = threading.Thread(
                target=_refresh_forever,
                # Collected without a close, it takes its thread along at once.
                args=(weakref.ref(self, wake), closed, changed),
                name="lakegauge-credentials",
                daemon=True,
            )
            self._background.start()

    def close(self) -> None:
        """End the thread in the background; tokens can still be had on demand."""
        self._closed.set()
        self._changed.set()
        background, self._background = self._background, None
        if background is not None and background is not threading.current_thread():
            background.join(timeout=1.0)

    def status(self) -> CredentialStatus:
        """Return what may be shown."""
        with self._lock:
            now, current = self._clock.now(), self._current
            return CredentialStatus(
                minted_at=current.minted_at if current else None,
                age_s=(now - current.minted_at).total_seconds() if current else None,
                expires_at=current.expires_at if current else None,
                next_refresh_at=self._refresh_at if current else None,
                is_usable=current is not None and current.is_usable(now),
                mints_count=self.minted,
                failures_count=self._failures,
                invalidated_count=self._invalidated,
                last_failure=str(self._failure) if self._failure else None,
                refreshes_in_background=self._background is not None,
            )

    def _ask(self) -> tuple[Credential | None, _Flight | None]:
        """Return a token that works, if there is one, and the mint to wait for."""
        with self._lock:
            now = self._clock.now()
            current = self._current
            if current is not None and not current.is_usable(now):
                current = None
            refresh_at = self._refresh_at
            if current is not None and (refresh_at is None or now < refresh_at):
                return current, None
            if self._flight is not None:
                # Whoever has a token that works leaves the waiting to the leader.
                return current, None if current is not None else self._flight
            now_ns = self._clock.monotonic_ns()
            if self._failure is not None and now_ns < self._retry_at_ns:
                if current is None:
                    raise CredentialError(
                        str(self._failure),
                        classification=self._failure.classification,
                    )
                return current, None
            flight = self._flight = _Flight(started_ns=now_ns)
        threading.Thread(
            target=self._fly, args=(flight,), name="lakegauge-mint", daemon=True
        ).start()
        return current, flight

    def _patience_s(self, flight: _Flight) -> float:
        flown_s = (self._clock.monotonic_ns() - flight.started_ns) / NS_PER_S
        return max(0.0, self._mint_timeout_s - flown_s)

    def _fly(self, flight: _Flight) -> None:
        """Mint, and let everybody who waits know how it went."""
        started_ns = self._clock.monotonic_ns()
        try:
            credential = self._mint()
            if not credential.is_usable(self._clock.now()):
                msg = (
                    "the token had expired when it arrived: compare this machine's "
                    f"clock with the workspace's (expires {credential.expires_at})"
                )
                raise CredentialError(msg)  # noqa: TRY301 - as if the mint had said it
        except BaseException as error:  # noqa: BLE001 - handed to everybody waiting
            self._land(flight, error)
            flight.future.set_exception(error)
            return
        took_ms = (self._clock.monotonic_ns() - started_ns) / 1e6
        with self._lock:
            if self._flight is flight:
                self._flight = None
            self._current, self._failure = credential, None
            self._failures_in_row = 0
            self.minted += 1
            self._refresh_at = self._jittered(credential)
        self._changed.set()
        logger.info(
            "token minted",
            extra={"operation": "credentials.mint", "duration_ms": round(took_ms, 3)},
        )
        flight.future.set_result(credential)

    def _land(self, flight: _Flight, error: BaseException) -> None:
        """Note a failed mint, and when the next may be tried."""
        with self._lock:
            if self._flight is not flight:
                return  # left behind, and counted then
            self._flight = None
            self._failures += 1
            if not isinstance(error, CredentialError):
                return
            self._failure = error
            longest_s = min(RETRY_DELAY_MAX_S, RETRY_DELAY_S * 2**self._failures_in_row)
            delay_s = longest_s * (0.5 + 0.5 * self._random.random())
            delay_s = max(delay_s, error.retry_after_s or 0.0)
            self._failures_in_row += 1
            attempt = self._failures_in_row
            now_ns = self._clock.monotonic_ns()
            self._retry_at_ns = now_ns + round(delay_s * NS_PER_S)
        logger.warning(
            "no token could be minted: %s",
            error,
            extra={
                "operation": "credentials.mint",
                "duration_ms": round((now_ns - flight.started_ns) / NS_PER_MS, 3),
                "category": str(classify(error).category),
                "attempt": attempt,
                "wait_ms": round(delay_s * 1000, 3),
            },
        )

    def _abandon(self, flight: _Flight) -> CredentialError:
        """Leave a mint behind that has used up its time."""
        error = CredentialError(
            f"no token within {self._mint_timeout_s:g} s: the workspace does not "
            "answer; check DATABRICKS_WORKSPACE_URL and the network",
            classification=Classification(
                ErrorCategory.NETWORK, Severity.HIGH, Verdict.RETRYABLE
            ),
        )
        self._land(flight, error)
        return error

    def _jittered(self, credential: Credential) -> datetime | None:
        refresh_at = credential.refresh_at
        if refresh_at is None:
            return None
        earlier = JITTER_SHARE * self._random.random()
        return refresh_at - credential.refresh_ahead * earlier


class _Flight:
    """One request on its way, and everybody who waits for it."""

    def __init__(self, *, started_ns: int) -> None:
        self.started_ns = started_ns
        self.future: Future[Credential] = Future()


def _refresh_forever(
    owner: weakref.ref[MintedCredentials],
    closed: threading.Event,
    changed: threading.Event,
) -> None:
    """Refresh until the owner is closed or gone."""
    while not closed.is_set():
        credentials = owner()
        if credentials is None:
            return
        changed.clear()
        wait_s = credentials.refresh_if_due()
        del credentials  # or it would never be gone
        if not closed.is_set():
            changed.wait(timeout=wait_s)


def _present(credential: Credential | None) -> Credential:
    assert credential is not None  # noqa: S101 - nothing to wait for: there is one
    return credential
