"""Minted once, replaced in time, and never handed out too late."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.clock import ManualClock
from harness.errors import CredentialError
from harness.lakebase.credentials import (
    LIFETIME_MIN,
    Credential,
    MintedCredentials,
    StaticCredentials,
    expiry_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


class Mint:
    """A service whose tokens live for a given time, and that may be down."""

    def __init__(self, clock, lifetime_s=3600.0):
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.calls = 0
        self.down = False

    def __call__(self):
        self.calls += 1
        if self.down:
            raise CredentialError("the workspace is down")
        now = self.clock.now()
        return Credential(
            token=SecretStr(f"token-{self.calls}"),
            minted_at=now,
            expires_at=now + timedelta(seconds=self.lifetime_s),
        )


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def mint(clock):
    return Mint(clock)


@pytest.fixture
def credentials(mint, clock):
    return MintedCredentials(mint, clock=clock)


def token(credentials):
    return credentials.credential().token.get_secret_value()


def test_token_is_used_again_until_it_is_nearly_over(credentials, mint, clock):
    assert token(credentials) == "token-1"
    clock.advance(54 * 60)
    assert token(credentials) == "token-1"
    clock.advance(1 * 60)
    assert token(credentials) == "token-2"
    assert mint.calls == 2


def test_short_token_is_replaced_in_the_last_fifth_of_its_life(clock):
    mint = Mint(clock, lifetime_s=300)
    credentials = MintedCredentials(mint, clock=clock)
    token(credentials)

    clock.advance(239)
    assert token(credentials) == "token-1"
    clock.advance(1)
    assert token(credentials) == "token-2"


def test_32_threads_mint_once(clock):
    """An unlocked cache mints once per thread, all at the same moment."""
    arrived = threading.Semaphore(0)
    release = threading.Event()
    mint = Mint(clock)

    def slow_mint():
        assert release.wait(timeout=10)
        return mint()

    credentials = MintedCredentials(slow_mint, clock=clock)
    barrier = threading.Barrier(32)

    def ask(_index):
        barrier.wait()
        arrived.release()
        return token(credentials)

    with ThreadPoolExecutor(32) as threads:
        answers = [threads.submit(ask, index) for index in range(32)]
        for _ in range(32):
            assert arrived.acquire(timeout=10)
        release.set()
        tokens = {answer.result(timeout=10) for answer in answers}

    assert tokens == {"token-1"}
    assert mint.calls == 1


def test_callers_go_on_with_the_old_token_while_one_fetches_the_next(clock):
    inside, release = threading.Event(), threading.Event()
    mint = Mint(clock)

    def slow_mint():
        if mint.calls:
            inside.set()
            assert release.wait(timeout=10)
        return mint()

    credentials = MintedCredentials(slow_mint, clock=clock)
    token(credentials)
    clock.advance(56 * 60)

    with ThreadPoolExecutor(1) as threads:
        leader = threads.submit(token, credentials)
        assert inside.wait(timeout=10)
        assert token(credentials) == "token-1"
        release.set()
        assert leader.result(timeout=10) == "token-2"


def test_failed_mint_is_shared_and_not_repeated_at_once(credentials, mint, clock):
    """A pool asks in bursts; a service in trouble must not get them all."""
    mint.down = True
    barrier = threading.Barrier(32)

    def ask(_index):
        barrier.wait()
        with pytest.raises(CredentialError, match="down"):
            credentials.credential()

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(32)))
    assert mint.calls == 1

    mint.down = False
    clock.advance(5)
    assert token(credentials) == "token-2"


def test_failed_refresh_leaves_the_working_token_in_use(credentials, mint, clock):
    token(credentials)
    mint.down = True
    clock.advance(56 * 60)

    assert token(credentials) == "token-1"
    assert token(credentials) == "token-1"
    assert mint.calls == 2

    clock.advance(4 * 60)
    with pytest.raises(CredentialError, match="down"):
        credentials.credential()


def test_unexpected_error_reaches_the_caller_and_frees_the_way(clock):
    answers = iter([RuntimeError("bug"), None])
    mint = Mint(clock)

    def broken():
        error = next(answers)
        if error:
            raise error
        return mint()

    credentials = MintedCredentials(broken, clock=clock)
    with pytest.raises(RuntimeError, match="bug"):
        credentials.credential()

    assert token(credentials) == "token-1"


def test_token_that_arrives_expired_is_an_error_about_clocks(clock):
    credentials = MintedCredentials(Mint(clock, lifetime_s=0), clock=clock)

    with pytest.raises(CredentialError, match="clock"):
        credentials.credential()


def test_static_password_never_expires(clock):
    credentials = StaticCredentials(SecretStr("pw"), clock=clock)
    clock.advance(10**8)

    assert token(credentials) == "pw"


@given(
    lifetime_s=st.floats(min_value=300, max_value=3600),
    steps=st.lists(
        st.tuples(st.floats(min_value=0, max_value=4000), st.booleans()), max_size=30
    ),
)
def test_no_history_of_waits_and_outages_yields_a_bad_token(lifetime_s, steps):
    clock = ManualClock()
    mint = Mint(clock, lifetime_s=lifetime_s)
    credentials = MintedCredentials(mint, clock=clock)
    last = None

    for wait_s, down in steps:
        clock.advance(wait_s)
        mint.down = down
        before, now = mint.calls, clock.now()
        try:
            given_out = credentials.credential()
        except CredentialError:
            # Only if the last one is really over and nothing new can be had.
            assert last is None or not last.is_usable(now)
            continue
        assert given_out.expires_at > now
        assert mint.calls - before <= 1
        if last is not None and now < last.refresh_at:
            assert mint.calls == before, "minted though the last one was good"
        if not down and last is not None and given_out is last:
            assert last.is_usable(now)
        last = given_out


def test_no_repr_shows_a_token(credentials):
    credential = credentials.credential()

    assert "token-1" not in repr(credential) + str(credential) + repr(vars(credentials))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-01T01:00:00Z", START + timedelta(hours=1)),
        ("2026-01-01T02:00:00.250+01:00", START + timedelta(hours=1, seconds=0.25)),
        ("2026-01-01T01:00:00", START + timedelta(hours=1)),
        (Timestamp(seconds=int(START.timestamp())), START),
        (None, START + LIFETIME_MIN),
    ],
    ids=["utc", "offset", "naive", "protobuf", "absent"],
)
def test_expiry_of_either_product_is_an_aware_time_in_utc(value, expected):
    found = expiry_of(value, minted_at=START)

    assert found == expected
    assert found.tzinfo is UTC


@pytest.mark.parametrize("value", ["soon", 12345, b"2026"], ids=repr)
def test_unknown_expiry_is_refused(value):
    with pytest.raises(CredentialError, match="expiry"):
        expiry_of(value, minted_at=START)


def test_expiry_is_compared_across_time_zones():
    tokyo = timezone(timedelta(hours=9))
    value = (START + timedelta(hours=1)).astimezone(tokyo).isoformat()

    assert expiry_of(value, minted_at=START) == START + timedelta(hours=1)
