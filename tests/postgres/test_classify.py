"""A failure is known by the server's code and its class, whatever its words say."""

from __future__ import annotations

import socket

import psycopg
import psycopg_pool
import pytest
from psycopg import errors

from harness.errors import (
    CheckoutTimeoutError,
    ConfigError,
    CredentialError,
    ErrorCategory,
    TargetError,
    Verdict,
)
from harness.postgres.classify import Phase, classify, classify_sqlstate
from harness.postgres.connect import connect


def raised(embedded, *statements):
    """Return what the server answers to the last of *statements*."""
    with connect(embedded.connect_arguments()) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statements[-1])
    return caught.value


UNIQUE = ("CREATE TEMP TABLE t (k int PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)")


@pytest.mark.parametrize(
    ("statements", "category", "verdict"),
    [
        pytest.param(UNIQUE, "database_query", "permanent", id="unique-violation"),
        pytest.param(["SELEC"], "database_query", "permanent", id="syntax"),
        pytest.param(["SELECT 1/0"], "database_query", "permanent", id="division"),
        pytest.param(
            ["SET ROLE pg_monitor", "CREATE ROLE x"],
            "authorization",
            "permanent",
            id="no-privilege",
        ),
        pytest.param(
            ["SET statement_timeout = 20", "SELECT pg_sleep(9)"],
            "database_timeout",
            "permanent",
            id="statement-timeout",
        ),
        pytest.param(
            ["SELECT pg_cancel_backend(pg_backend_pid())"],
            "database_timeout",
            "permanent",
            id="cancelled-by-a-person",
        ),
        pytest.param(
            ["SELECT pg_terminate_backend(pg_backend_pid())"],
            "database_connection",
            "outcome_unknown",
            id="terminated-within-a-statement",
        ),
    ],
)
def test_failed_statement_is_what_the_server_says(
    embedded, statements, category, verdict
):
    """The originals called each of these a connection error and tried it again."""
    found = classify(raised(embedded, *statements))
    assert (found.category, found.verdict) == (category, verdict)


@pytest.mark.parametrize(
    ("sqlstate", "category", "verdict"),
    [
        ("40001", "database_query", "retryable"),
        ("40P01", "database_query", "retryable"),
        ("40003", "database_connection", "outcome_unknown"),
        ("08006", "database_connection", "outcome_unknown"),
        ("53300", "database_connection", "retryable"),
        ("53200", "system", "retryable"),
        ("53100", "system", "permanent"),
        ("55P03", "database_timeout", "retryable"),
        ("57P01", "database_connection", "outcome_unknown"),
        ("57P03", "database_connection", "retryable"),
        ("57P05", "database_connection", "retryable"),
        ("28P01", "authentication", "permanent"),
        ("28000", "authentication", "permanent"),
        ("3D000", "configuration", "permanent"),
        ("42501", "authorization", "permanent"),
        ("42P01", "database_query", "permanent"),
        ("P0001", "database_query", "permanent"),
        ("XX000", "system", "permanent"),
        ("ZZZZZ", "database_query", "permanent"),
    ],
)
def test_code_alone_decides(sqlstate, category, verdict):
    cls = errors.lookup(sqlstate) if sqlstate in errors._sqlcodes else psycopg.Error
    error = type("Made", (cls,), {"sqlstate": sqlstate})(
        "password authentication failed; 429; connection; timeout"
    )
    found = classify(error)
    assert (found.category, found.verdict) == (category, verdict)
    assert found == classify_sqlstate(sqlstate)


@pytest.mark.parametrize(
    ("sqlstate", "verdicts"),
    [
        ("57P01", ("retryable", "retryable", "outcome_unknown", "outcome_unknown")),
        ("57P02", ("retryable", "retryable", "outcome_unknown", "outcome_unknown")),
        ("08006", ("retryable", "retryable", "outcome_unknown", "outcome_unknown")),
        ("40001", ("retryable",) * 4),
        ("40003", ("retryable", "retryable", "outcome_unknown", "outcome_unknown")),
        ("23505", ("permanent",) * 4),
        ("28P01", ("permanent",) * 4),
        ("XX000", ("retryable", "permanent", "permanent", "permanent")),
    ],
)
def test_lost_session_is_repeated_only_where_nothing_was_committed(sqlstate, verdicts):
    found = [classify_sqlstate(sqlstate, phase=phase).verdict for phase in Phase]
    assert found == [Verdict(verdict) for verdict in verdicts]


def test_lost_answer_has_an_unknown_outcome(embedded):
    """The socket dies under a statement: no code at all, and nobody knows."""
    connection = connect(embedded.connect_arguments())
    with socket.socket(fileno=connection.fileno()) as wire:
        wire.shutdown(socket.SHUT_RDWR)
        wire.detach()
    with pytest.raises(psycopg.OperationalError) as caught:
        connection.execute("SELECT 1")
    connection.close()

    assert caught.value.sqlstate is None
    assert classify(caught.value).verdict is Verdict.OUTCOME_UNKNOWN
    assert classify(caught.value, phase=Phase.COMMIT).verdict is Verdict.OUTCOME_UNKNOWN
    inside = classify(caught.value, phase=Phase.TRANSACTION)
    assert inside.verdict is Verdict.RETRYABLE
    assert inside.category is ErrorCategory.DATABASE_CONNECTION


TIMEOUT = CheckoutTimeoutError(
    pool_name="p", waited_s=1.0, size_max=1, in_use=1, waiting=1
)


@pytest.mark.parametrize(
    ("error", "category", "verdict"),
    [
        (TIMEOUT, "database_timeout", "retryable"),
        (psycopg_pool.PoolTimeout("429"), "database_timeout", "retryable"),
        (psycopg_pool.TooManyRequests("x"), "rate_limiting", "retryable"),
        (psycopg_pool.PoolClosed("x"), "database_connection", "permanent"),
        (errors.ConnectionTimeout("x"), "database_timeout", "retryable"),
        (psycopg.InterfaceError("connection"), "database_query", "permanent"),
        (ConfigError("x"), "configuration", "permanent"),
        (CredentialError("x"), "authentication", "permanent"),
        (TargetError("x"), "database_connection", "permanent"),
        (TargetError("x", sqlstate="57P03"), "database_connection", "retryable"),
        (TargetError("x", sqlstate="57P01"), "database_connection", "retryable"),
        (ConnectionRefusedError(), "network", "retryable"),
        (ConnectionResetError(), "network", "outcome_unknown"),
        (TimeoutError(), "network", "outcome_unknown"),
        (socket.gaierror(), "network", "retryable"),
        (MemoryError(), "system", "permanent"),
        (PermissionError(), "system", "permanent"),
        (ZeroDivisionError(), "unknown", "permanent"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_failure_without_a_code_is_known_by_its_class(error, category, verdict):
    found = classify(error)
    assert (found.category, found.verdict) == (category, verdict)
