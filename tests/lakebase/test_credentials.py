"""Minted once, replaced in time, and never handed out too late."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import CredentialError, Verdict
from harness.lakebase.credentials import (
    LIFETIME_MIN,
    Credential,
    StaticCredentials,
    expiry_of,
)
from harness.lakebase.minting import LOOK_INTERVAL_S, MintedCredentials

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


class NoJitter:
    """Jitter at its least: refresh as late, and pause as short, as may be."""

    def random(self):
        return 0.0


@pytest.fixture
def credentials(mint, clock):
    return MintedCredentials(mint, clock=clock, random=NoJitter())


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
    credentials = MintedCredentials(mint, clock=clock, random=NoJitter())
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
    credentials = MintedCredentials(mint, clock=clock, random=Random(lifetime_s))
    last, refresh_at = None, None

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
        if last is not None and now < refresh_at:
            assert mint.calls == before, "minted though the last one was good"
        if not down and last is not None and given_out is last:
            assert last.is_usable(now)
        last = given_out
        refresh_at = credentials.status().next_refresh_at
        assert refresh_at <= last.refresh_at
        assert credentials.status().is_usable


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


def test_threads_and_tasks_share_one_mint(clock):
    """32 threads and 32 tasks of an event loop ask at once."""
    release, asked = threading.Event(), threading.Semaphore(0)
    mint = Mint(clock)

    def slow_mint():
        assert release.wait(timeout=30)
        return mint()

    credentials = MintedCredentials(slow_mint, clock=clock)

    def ask():
        asked.release()
        return token(credentials)

    async def ask_async():
        asked.release()
        return (await credentials.credential_async()).token.get_secret_value()

    async def all_tasks():
        return await asyncio.gather(*[ask_async() for _ in range(32)])

    with ThreadPoolExecutor(33) as threads:
        answers = [threads.submit(ask) for _ in range(32)]
        tasks = threads.submit(lambda: asyncio.run(all_tasks()))
        for _ in range(64):
            assert asked.acquire(timeout=30)
        release.set()
        tokens = {answer.result(timeout=30) for answer in answers}
        tokens |= set(tasks.result(timeout=30))

    assert tokens == {"token-1"}
    assert mint.calls == 1


def test_event_loop_goes_on_while_a_token_is_minted(clock):
    """The originals called the blocking SDK from inside the event loop."""
    release, ticked = threading.Event(), []
    mint = Mint(clock)

    def slow_mint():
        assert release.wait(timeout=30)
        return mint()

    credentials = MintedCredentials(slow_mint, clock=clock)

    async def tick():
        for number in range(5):
            ticked.append(number)
            await asyncio.sleep(0)
        release.set()

    async def both():
        found, _ = await asyncio.gather(credentials.credential_async(), tick())
        return found.token.get_secret_value()

    assert asyncio.run(both()) == "token-1"
    assert ticked == [0, 1, 2, 3, 4]


def test_cancelled_task_leaves_the_mint_to_the_others(clock):
    release = threading.Event()
    mint = Mint(clock)

    def slow_mint():
        assert release.wait(timeout=30)
        return mint()

    credentials = MintedCredentials(slow_mint, clock=clock)

    async def scenario():
        first = asyncio.create_task(credentials.credential_async())
        second = asyncio.create_task(credentials.credential_async())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        release.set()
        return (await second).token.get_secret_value()

    assert asyncio.run(scenario()) == "token-1"
    assert mint.calls == 1


@pytest.mark.parametrize("way", ["sync", "async"])
def test_mint_that_hangs_is_given_up_on_and_left_behind(clock, way):
    """The SDK's own budget is five minutes; a pool would stand still as long."""
    release = threading.Event()
    mint = Mint(clock)

    def hanging_once():
        if not mint.calls:
            mint.calls += 1
            release.wait(timeout=30)
        return mint()

    credentials = MintedCredentials(hanging_once, clock=clock, mint_timeout_s=0.05)

    def ask():
        if way == "sync":
            return credentials.credential()
        return asyncio.run(credentials.credential_async())

    with pytest.raises(CredentialError, match="no token within") as caught:
        ask()
    assert caught.value.classification.verdict is Verdict.RETRYABLE
    clock.advance(5)
    credentials._mint_timeout_s = 30.0
    assert ask().token.get_secret_value() == "token-2"
    release.set()


def test_pause_after_failed_mints_doubles_up_to_a_minute(credentials, mint, clock):
    mint.down = True
    pauses = []
    for _ in range(7):
        with pytest.raises(CredentialError):
            credentials.credential()
        calls, paused_s = mint.calls, 0.0
        while mint.calls == calls:
            clock.advance(0.5)
            paused_s += 0.5
            with pytest.raises(CredentialError):
                credentials.credential()
        pauses.append(paused_s)

    # Half of what jitter may make of it: 5, 10, 20, 40, 60, 60 s.
    assert pauses == [2.5, 5.0, 10.0, 20.0, 30.0, 30.0, 30.0]


def test_pause_the_service_asks_for_is_kept(clock):
    calls = []

    def limited():
        calls.append(clock.now())
        raise CredentialError("slow down", retry_after_s=120.0)

    credentials = MintedCredentials(limited, clock=clock)
    for _ in range(4):
        with pytest.raises(CredentialError, match="slow down"):
            credentials.credential()
        clock.advance(39)
    assert len(calls) == 1
    clock.advance(3)
    with pytest.raises(CredentialError):
        credentials.credential()
    assert len(calls) == 2


def test_processes_that_start_together_do_not_refresh_together(clock):
    times = set()
    for seed in range(20):
        credentials = MintedCredentials(Mint(clock), clock=clock, random=Random(seed))
        credential = credentials.credential()
        refresh_at = credentials.status().next_refresh_at
        ahead = credential.expires_at - refresh_at
        assert timedelta(minutes=5) <= ahead <= timedelta(minutes=7.5)
        times.add(refresh_at)
    assert len(times) == 20
    again = MintedCredentials(Mint(clock), clock=clock, random=Random(0))
    again.credential()
    assert again.status().next_refresh_at in times, "a seed repeats a run"


def test_refused_token_is_dropped_once_however_many_logins_it_failed(credentials, mint):
    first = token(credentials)
    assert [credentials.invalidate(first) for _ in range(20)] == [True] * 20
    second = token(credentials)

    assert (first, second) == ("token-1", "token-2")
    assert credentials.invalidate(first), "its successor is there to be used"
    assert token(credentials) == second
    assert mint.calls == 2
    assert credentials.status().invalidated_count == 1


def test_server_that_refuses_every_token_does_not_get_one_per_login(
    credentials, mint, clock
):
    answers = []
    for _ in range(100):
        answers.append(credentials.invalidate(token(credentials)))
        clock.advance(0.1)

    assert answers.count(True) == mint.calls - 1 + (answers[-1] is True)
    assert mint.calls <= 11


def test_static_password_that_is_refused_has_no_successor():
    assert not StaticCredentials(SecretStr("pw")).invalidate("pw")


def test_status_shows_everything_but_the_token(credentials, mint, clock):
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


def test_background_replaces_a_token_that_nobody_asks_for():
    """On the real clock: tokens of 0.3 s, and no caller between them."""
    minted = threading.Semaphore(0)
    mint = Mint(SYSTEM_CLOCK, lifetime_s=0.3)

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


def test_background_ends_with_its_owner(clock):
    credentials = MintedCredentials(Mint(clock), clock=clock)
    credentials.start_background()
    thread = credentials._background
    credentials.credential()
    del credentials
    gc.collect()
    # Well before the thread's next look at the clock.
    thread.join(timeout=LOOK_INTERVAL_S / 3)
    assert not thread.is_alive()


def test_background_goes_on_after_a_failed_refresh(credentials, mint, clock):
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
