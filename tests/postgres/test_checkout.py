"""What a pooled connection is opened with."""

from __future__ import annotations

import pytest

from harness.postgres.opening import arguments_for
from harness.postgres.pool import PoolConfig
from harness.postgres.server import ConnectArguments


class Named:
    """A server that is only asked for its arguments."""

    def __init__(self, **arguments):
        self.arguments = arguments

    def connect_arguments(self):
        return ConnectArguments(self.arguments)


def opened_with(config=None, **arguments):
    return arguments_for(Named(**arguments), PoolConfig(**(config or {})))


def test_pool_says_who_it_is_and_how_long_it_waits():
    arguments = opened_with(
        {"application_name": "sizing", "connect_timeout_s": 7.4},
        host="db",
        application_name="from the DSN",
    )

    assert arguments == {
        "host": "db",
        "application_name": "sizing",
        "connect_timeout": 7,
    }


def test_short_connect_timeout_is_not_rounded_to_waiting_for_ever():
    assert opened_with({"connect_timeout_s": 0.1})["connect_timeout"] == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "-c statement_timeout=1500"),
        ({"options": "-c jit=off"}, "-c jit=off -c statement_timeout=1500"),
    ],
    ids=["none", "kept"],
)
def test_statement_timeout_goes_with_the_login(before, after):
    assert opened_with({"statement_timeout_s": 1.5}, **before)["options"] == after


def test_transaction_pooler_gets_no_options():
    arguments = opened_with({"statement_timeout_s": 1.5}, prepare_threshold=None)

    assert "options" not in arguments


def test_no_repr_shows_the_password():
    assert "canary" not in repr(opened_with(password="canary"))
