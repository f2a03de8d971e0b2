"""A token is looked for in all that an error or a log shows, and is nowhere."""

from __future__ import annotations

import logging
import pickle
import traceback
from datetime import timedelta

import pytest

from harness.errors import HarnessError
from harness.lakebase.error_handling import ErrorHandler
from harness.lakebase.target import start_lakebase
from harness.postgres.connect import connect
from harness.postgres.recovery import Recovery
from harness.retry_budget import RetryBudget

CANARY = "canary"  # part of every secret of the control plane


def everything_shown(error):
    """Return whatever a report, a log or a debugger's list would show of an error."""
    parts = [str(error), repr(error), repr(error.args), repr(vars(error))]
    parts += traceback.format_exception(error)
    parts += traceback.TracebackException.from_exception(error, compact=True).format()
    parts.append(repr(pickle.dumps(error.args)))
    seen = error
    while seen is not None:
        parts += [str(seen), repr(seen), *getattr(seen, "__notes__", [])]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(parts)


def refused_login(server, plane, monkeypatch):
    """A server that takes none of our tokens."""
    mint = plane.mint
    monkeypatch.setattr(
        plane, "mint", lambda life: (f"{CANARY}-{mint(life)[0]}", mint(life)[1])
    )
    plane.mint(timedelta(hours=1))
    connect(server.connect_arguments())


def unknown_option(server, _plane, _monkeypatch):
    """libpq quotes what it does not understand."""
    arguments = server.connect_arguments()
    arguments["sslmode"] = arguments["password"]
    connect(arguments)


def failed_mint(server, plane, _monkeypatch):
    """The service's answer quotes the token that it was sent."""
    for _ in range(5):
        plane.fail_next(
            "credentials",
            status=403,
            payload=b'{"error_code": "X", "message": "bad token %s"}'
            % plane.workspace_token.encode(),
        )
    server._credentials.invalidate(server.connect_arguments()["password"])
    server.connect_arguments()


@pytest.mark.parametrize("fail", [refused_login, unknown_option, failed_mint])
def test_no_token_in_anything_an_error_shows(
    lakebase_settings, plane, monkeypatch, caplog, fail
):
    caplog.set_level(logging.DEBUG)
    for name in ("databricks.sdk", "psycopg", "psycopg.pool", "harness", "urllib3"):
        caplog.set_level(logging.DEBUG, logger=name)
    server = start_lakebase(lakebase_settings())
    handler = ErrorHandler()

    with pytest.raises(HarnessError) as caught:
        Recovery(budget=RetryBudget(burst=0)).call(
            lambda: fail(server, plane, monkeypatch)
        )
    context = handler.handle_exception(caught.value)

    assert plane.tokens, "there was something to leak"
    shown = everything_shown(caught.value) + repr(context) + caplog.text
    shown += repr([vars(record) for record in caplog.records])
    shown += repr(server.credential_status()) + repr(handler.get_error_summary())
    assert CANARY not in shown


def test_looking_finds_a_token_that_an_error_quotes():
    """The control of the test above: an error that does leak is seen to."""
    error = HarnessError("nothing to see")
    error.__context__ = ValueError("canary-token-x")
    assert CANARY in everything_shown(error)
