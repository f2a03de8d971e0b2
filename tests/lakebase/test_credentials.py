"""Minted once, replaced in time, and never handed out too late."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from harness.clock import ManualClock
from harness.errors import CredentialError, Verdict
from harness.lakebase.credentials import (
    StaticCredentials,
)
from harness.lakebase.minting import MintedCredentials

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_token_is_used_again_until_it_is_nearly_over(credentials, mint, clock, token):
    assert token(credentials) == "token-1"
    clock.advance(54 * 60)
    assert token(credentials) == "token-1"
    clock.advance(1 * 60)
    assert token(credentials) == "token-2"
    assert mint.calls == 2


def test_short_token_is_replaced_in_the_last_fifth_of_its_life(
    clock, make_mint, token, no_jitter
):
    mint = make_mint(clock, lifetime_s=300)
    credentials = MintedCredentials(mint, clock=clock, random=no_jitter)
    token(credentials)

    clock.advance(239)
    assert token(credentials) == "token-1"
    clock.advance(1)
    assert token(credentials) == "token-2"


def test_32_threads_mint_once(clock, make_mint, token):
    """An unlocked cache mints once per thread, all at the same moment."""
    arrived = threading.Semaphore(0)
    release = threading.Event()
    mint = make_mint(clock)

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


def test_callers_go_on_with_the_old_token_while_one_fetches_the_next(
    clock, make_mint, token
):
    inside, release = threading.Event(), threading.Event()
    mint = make_mint(clock)

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


def test_failed_mint_is_shared_and_not_repeated_at_once(
    credentials, mint, clock, token
):
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


def test_failed_refresh_leaves_the_working_token_in_use(
    credentials, mint, clock, token
):
    token(credentials)
    mint.down = True
    clock.advance(56 * 60)

    assert token(credentials) == "token-1"
    assert token(credentials) == "token-1"
    assert mint.calls == 2

    clock.advance(4 * 60)
    with pytest.raises(CredentialError, match="down"):
        credentials.credential()


def test_unexpected_error_reaches_the_caller_and_frees_the_way(clock, make_mint, token):
    answers = iter([RuntimeError("bug"), None])
    mint = make_mint(clock)

    def broken():
        error = next(answers)
        if error:
            raise error
        return mint()

    credentials = MintedCredentials(broken, clock=clock)
    with pytest.raises(RuntimeError, match="bug"):
        credentials.credential()

    assert token(credentials) == "token-1"


def test_token_that_arrives_expired_is_an_error_about_clocks(clock, make_mint):
    credentials = MintedCredentials(make_mint(clock, lifetime_s=0), clock=clock)

    with pytest.raises(CredentialError, match="clock"):
        credentials.credential()


def test_static_password_never_expires(clock, token):
    credentials = StaticCredentials(SecretStr("pw"), clock=clock)
    clock.advance(10**8)

    assert token(credentials) == "pw"


@given(
    lifetime_s=st.floats(min_value=300, max_value=3600),
    steps=st.lists(
        st.tuples(st.floats(min_value=0, max_value=4000), st.booleans()), max_size=30
    ),
)
def test_no_history_of_waits_and_outages_yields_a_bad_token(
    lifetime_s, steps, make_mint
):
    clock = ManualClock()
    mint = make_mint(clock, lifetime_s=lifetime_s)
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


def test_threads_and_tasks_share_one_mint(clock, make_mint, token):
    """32 threads and 32 tasks of an event loop ask at once."""
    release, asked = threading.Event(), threading.Semaphore(0)
    mint = make_mint(clock)

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


def test_event_loop_goes_on_while_a_token_is_minted(clock, make_mint):
    """The originals called the blocking SDK from inside the event loop."""
    release, ticked = threading.Event(), []
    mint = make_mint(clock)

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


def test_cancelled_task_leaves_the_mint_to_the_others(clock, make_mint):
    release = threading.Event()
    mint = make_mint(clock)

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
def test_mint_that_hangs_is_given_up_on_and_left_behind(clock, way, make_mint):
    """The SDK's own budget is five minutes; a pool would stand still as long."""
    release = threading.Event()
    mint = make_mint(clock)

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


def test_processes_that_start_together_do_not_refresh_together(clock, make_mint):
    times = set()
    for seed in range(20):
        credentials = MintedCredentials(
            make_mint(clock), clock=clock, random=Random(seed)
        )
        credential = credentials.credential()
        refresh_at = credentials.status().next_refresh_at
        ahead = credential.expires_at - refresh_at
        assert timedelta(minutes=5) <= ahead <= timedelta(minutes=7.5)
        times.add(refresh_at)
    assert len(times) == 20
    again = MintedCredentials(make_mint(clock), clock=clock, random=Random(0))
    again.credential()
    assert again.status().next_refresh_at in times, "a seed repeats a run"
