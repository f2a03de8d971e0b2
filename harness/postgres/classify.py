"""What a failure means: by SQLSTATE and exception class, never by its text."""

from __future__ import annotations

import asyncio
import socket
import sys
from enum import StrEnum
from typing import Final

from harness.errors import (
    CheckoutTimeoutError,
    Classification,
    ConfigError,
    CredentialError,
    ErrorCategory,
    Severity,
    TargetError,
    Verdict,
)


class Phase(StrEnum):
    """How far the work had come when it failed.

    It decides what a lost answer means: before the commit everything is undone,
    after it was sent nobody knows.
    """

    CONNECT = "connect"  # nothing was sent but the login
    TRANSACTION = "transaction"  # in a transaction whose commit was not sent
    STATEMENT = "statement"  # a statement that commits by itself
    COMMIT = "commit"  # the commit was sent


def _kind(category: str, severity: str, verdict: str) -> Classification:
    return Classification(ErrorCategory(category), Severity(severity), Verdict(verdict))


# What every SQLSTATE class means; PostgreSQL's appendix A names them.
_CLASSES: Final = {
    "08": _kind("database_connection", "high", "outcome_unknown"),
    "0A": _kind("database_query", "medium", "permanent"),
    "22": _kind("database_query", "medium", "permanent"),
    "23": _kind("database_query", "medium", "permanent"),
    "25": _kind("database_query", "medium", "permanent"),
    "28": _kind("authentication", "critical", "permanent"),
    "40": _kind("database_query", "low", "retryable"),
    "42": _kind("database_query", "medium", "permanent"),
    "53": _kind("system", "high", "retryable"),
    "54": _kind("database_query", "medium", "permanent"),
    "55": _kind("database_query", "medium", "permanent"),
    "57": _kind("database_connection", "high", "permanent"),
    "58": _kind("system", "critical", "permanent"),
    "F0": _kind("configuration", "critical", "permanent"),
    "XX": _kind("system", "critical", "permanent"),
}
# A server's own code of another class comes from a statement: a trigger's RAISE,
# a cursor that is gone, an extension.
_OTHER_CLASS: Final = _kind("database_query", "medium", "permanent")

# Codes that differ from their class.
_CODES: Final = {
    # The session does not know what became of it.
    "40003": _kind("database_connection", "high", "outcome_unknown"),
    "40002": _kind("database_query", "medium", "permanent"),
    "3D000": _kind("configuration", "critical", "permanent"),
    "42501": _kind("authorization", "high", "permanent"),
    # A transaction left idle too long was rolled back by the server.
    "25P03": _kind("database_timeout", "medium", "retryable"),
    "25P04": _kind("database_timeout", "medium", "permanent"),
    "53100": _kind("system", "critical", "permanent"),
    "53300": _kind("database_connection", "high", "retryable"),
    "53400": _kind("configuration", "high", "permanent"),
    "55006": _kind("database_query", "low", "retryable"),
    "55P03": _kind("database_timeout", "medium", "retryable"),
    # One code for the time limit and for a person's cancel. Repeating what a person
    # stopped is wrong, and what ran out of time would again.
    "57014": _kind("database_timeout", "medium", "permanent"),
    # A session that ends is retryable where its work is certainly undone.
    "57P01": _kind("database_connection", "high", "outcome_unknown"),
    "57P02": _kind("database_connection", "high", "outcome_unknown"),
    "57P03": _kind("database_connection", "medium", "retryable"),
    "57P04": _kind("configuration", "critical", "permanent"),
    # The server ends a session for idling only while it has nothing to do.
    "57P05": _kind("database_connection", "low", "retryable"),
}
_LOST: Final = _kind("database_connection", "high", "outcome_unknown")
_NETWORK: Final = _kind("network", "high", "outcome_unknown")
_UNKNOWN: Final = _kind("unknown", "high", "permanent")

# Exception classes that have no SQLSTATE; the first that fits wins.
_TYPES: Final[tuple[tuple[type[BaseException], Classification], ...]] = (
    (ConfigError, _kind("configuration", "critical", "permanent")),
    (CredentialError, _kind("authentication", "critical", "permanent")),
    # Nothing was sent: nobody had a connection to send it on.
    (CheckoutTimeoutError, _kind("database_timeout", "high", "retryable")),
    (TargetError, _kind("database_connection", "high", "permanent")),
    (ConnectionRefusedError, _kind("network", "high", "retryable")),
    (socket.gaierror, _kind("network", "high", "retryable")),
    (ConnectionError, _NETWORK),
    (asyncio.TimeoutError, _NETWORK),
    (TimeoutError, _NETWORK),
    (MemoryError, _kind("system", "critical", "permanent")),
    (OSError, _kind("system", "high", "permanent")),
)


def classify(error: BaseException, *, phase: Phase = Phase.STATEMENT) -> Classification:
    """Say what kind of failure it was, how bad it is, and whether to try again.

    Args:
        error: What was raised.
        phase: How far the work had come. The default is the cautious one: a
            statement in autocommit mode whose answer is lost may have been done.
    """
    known = getattr(error, "classification", None)
    if isinstance(known, Classification):
        return known
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(error, TargetError):
        phase = Phase.CONNECT
    if isinstance(sqlstate, str):
        return classify_sqlstate(sqlstate, phase=phase)
    return classify_type(type(error), phase=phase)


def classify_type(
    kind: type[BaseException], *, phase: Phase = Phase.STATEMENT
) -> Classification:
    """Say what an exception class means that comes without a code; see `classify`."""
    found = _driver_error(kind) or next(
        (meaning for cls, meaning in _TYPES if issubclass(kind, cls)), _UNKNOWN
    )
    return _in_phase(found, phase)


def classify_sqlstate(
    sqlstate: str, *, phase: Phase = Phase.STATEMENT
) -> Classification:
    """Say what a server's code means; see `classify`."""
    found = _CODES.get(sqlstate) or _CLASSES.get(sqlstate[:2], _OTHER_CLASS)
    if phase is Phase.CONNECT and (
        # A login that breaks for reasons inside the server is worth another.
        found.category is ErrorCategory.SYSTEM and sqlstate != "53100"
    ):
        return found._replace(verdict=Verdict.RETRYABLE)
    return _in_phase(found, phase)


def _in_phase(found: Classification, phase: Phase) -> Classification:
    """Settle an unknown outcome where nothing can have been committed."""
    if found.verdict is Verdict.OUTCOME_UNKNOWN and phase in (
        Phase.CONNECT,
        Phase.TRANSACTION,
    ):
        return found._replace(verdict=Verdict.RETRYABLE)
    return found


def _driver_error(kind: type[BaseException]) -> Classification | None:
    """Classify what the driver and its pool raise without a code of the server."""
    # Whoever raised one has loaded the library; we need not.
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not issubclass(kind, psycopg.Error):
        return None
    kinds = []
    library = sys.modules.get("psycopg_pool")
    if library is not None:
        kinds = [
            (library.PoolTimeout, _kind("database_timeout", "high", "retryable")),
            (library.TooManyRequests, _kind("rate_limiting", "medium", "retryable")),
            (library.PoolClosed, _kind("database_connection", "high", "permanent")),
        ]
    kinds += [
        (
            psycopg.errors.ConnectionTimeout,
            _kind("database_timeout", "high", "retryable"),
        ),
        (psycopg.OperationalError, _LOST),
    ]
    fitting = (meaning for cls, meaning in kinds if issubclass(kind, cls))
    return next(fitting, _OTHER_CLASS)
