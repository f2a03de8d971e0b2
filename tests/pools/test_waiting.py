"""The cap, the queue and the time-out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.errors import CheckoutTimeoutError


def test_cap_holds_under_a_burst(make, backends):
    """32 threads, 4 connections: an unlocked check-then-act would open more."""
    pool = make(size_min=0, size_max=4)
    start = threading.Barrier(32)
    seen = []

    def work(_index):
        start.wait()
        for _ in range(5):
            with pool.checkout() as connection:
                connection.execute("SELECT pg_sleep(0.001)")
                seen.append(pool.stats().in_use)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(work, range(32)))

    assert len(seen) == 160
    assert max(seen) <= 4
    assert 1 <= backends() <= 4


def test_full_pool_times_out_with_its_state(make):
    pool = make(size_min=2, size_max=2, checkout_timeout_s=0.1)

    with (
        pool.checkout(),
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(),
    ):
        pass

    error = caught.value
    assert (error.size_max, error.in_use) == (2, 2)
    assert error.waiting == 1
    assert 0.1 <= error.waited_s < 5.0
    assert "size_max=2, in_use=2, waiting=1" in str(error)


def test_timeout_zero_does_not_wait(make):
    pool = make(size_min=1, size_max=1, checkout_timeout_s=0.0)

    with (
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(),
    ):
        pass

    assert caught.value.waited_s < 0.05


def test_waiter_gets_the_connection_that_comes_back(make, pid_of, eventually):
    pool = make(size_min=1, size_max=1)

    def use():
        with pool.checkout() as connection:
            return pid_of(connection)

    with ThreadPoolExecutor(1) as threads:
        with pool.checkout() as connection:
            first = pid_of(connection)
            waiter = threads.submit(use)
            eventually(lambda: pool.stats().waiting == 1)
        assert waiter.result(timeout=10) == first
    assert pool.stats().in_use == 0


def test_timeout_zero_never_waits_not_even_for_a_new_connection(make, eventually):
    """What is free is taken; what is missing is opened for the next caller."""
    pool = make(size_min=1, size_max=2, checkout_timeout_s=0.0)

    with pool.checkout():
        with pytest.raises(CheckoutTimeoutError), pool.checkout():
            pass
        eventually(lambda: pool.stats().idle == 1)
        with pool.checkout():
            assert pool.stats().in_use == 2


def test_timeout_of_one_checkout_overrides_the_pools(make):
    """The originals read `timeout=0` as "the default"."""
    pool = make(size_min=1, size_max=1, checkout_timeout_s=60.0)

    with (
        pool.checkout(),
        pytest.raises(CheckoutTimeoutError) as caught,
        pool.checkout(timeout_s=0),
    ):
        pass

    assert caught.value.waited_s < 1.0
