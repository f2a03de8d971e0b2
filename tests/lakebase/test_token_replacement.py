"""A token that is refused or over is replaced: on demand, and in the background."""

from __future__ import annotations

import gc
import threading
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.credentials import StaticCredentials
from harness.lakebase.minting import LOOK_INTERVAL_S, MintedCredentials

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_refused_token_is_dropped_once_however_many_logins_it_failed(
    credentials, mint, token
):
    first = token(credentials)
    assert [credentials.invalidate(first) for _ in range(20)] == [True] * 20
    second = token(credentials)

    assert (first, second) == ("token-1", "token-2")
    assert credentials.invalidate(first), "its successor is there to be used"
    assert token(credentials) == second
    assert mint.calls == 2
    assert credentials.status().invalidated_count == 1


def test_server_that_refuses_every_token_does_not_get_one_per_login(
    credentials, mint, clock, token
):
    answers = []
    for _ in range(100):
        answers.append(credentials.invalidate(token(credentials)))
        clock.advance(0.1)

    assert answers.count(True) == mint.calls - 1 + (answers[-1] is True)
    assert mint.calls <= 11


def test_static_password_that_is_refused_has_no_successor():
    assert not StaticCredentials(SecretStr("pw")).invalidate("pw")


def test_status_shows_everything_but_the_token(credentials, mint, clock, token):
    before = credentials.status()
    token(credentials)
    clock.advance(60)
    status = credentials.status()

    assert (before.minted_at, before.is_usable, before.mints_count) == (None, False, 0)
    assert status.age_s == 60
    assert status.expires_at == START + timedelta(hours=1)
    assert status.next_refresh_at == START + timedelta(minutes=55)
    assert status.is_usable
    assert (status.mints_count, status.failures_count) == (1, 0)
    assert "token-1" not in repr(status)

    mint.down = True
    clock.advance(56 * 60)
    token(credentials)
    assert credentials.status().failures_count == 1
    assert credentials.status().last_failure == "the workspace is down"


def test_background_replaces_a_token_that_nobody_asks_for(make_mint):
    """On the real clock: tokens of 0.3 s, and no caller between them."""
    minted = threading.Semaphore(0)
    mint = make_mint(SYSTEM_CLOCK, lifetime_s=0.3)

    def counted():
        credential = mint()
        minted.release()
        return credential

    credentials = MintedCredentials(counted)
    credentials.start_background()
    credentials.credential()
    for _ in range(3):
        assert minted.acquire(timeout=30)
    assert credentials.status().refreshes_in_background
    credentials.close()
    assert not credentials.status().refreshes_in_background


def test_background_ends_with_its_owner(clock, make_mint):
    credentials = MintedCredentials(make_mint(clock), clock=clock)
    credentials.start_background()
    thread = credentials._background
    credentials.credential()
    del credentials
    gc.collect()
    # Well before the thread's next look at the clock.
    thread.join(timeout=LOOK_INTERVAL_S / 3)
    assert not thread.is_alive()


def test_background_goes_on_after_a_failed_refresh(credentials, mint, clock, token):
    """One failure of the originals meant no refresh for fifty minutes."""
    token(credentials)
    clock.advance(56 * 60)
    mint.down = True
    assert credentials.refresh_if_due() == 0.0
    assert 0 < credentials.refresh_if_due() <= 5.0
    mint.down = False
    clock.advance(5)
    credentials.refresh_if_due()

    assert token(credentials) == "token-3"
    assert credentials.refresh_if_due() == 30.0
