"""One attempt to log in, at the level where libpq tells the server's own code."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from psycopg import pq
from psycopg.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from psycopg.abc import PQGenConn

# libpq's PGVerbosity: the default, and the one that adds the SQLSTATE.
_DEFAULT, _VERBOSE = 1, 2

# `FATAL:  28P01: words`, the severity in whatever language the server speaks.
_CODED = re.compile(r":  (?P<state>[0-9A-Z]{5}): (?P<words>.*)$", re.MULTILINE)
# Refused for how we came, which a second try by another way may have hidden.
_NO_RULE = "28000"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a login failed.

    Attributes:
        words: libpq's or the server's words, one line; may hold a secret.
        sqlstate: The server's code; None where the server gave none.
        stage: How far it came: "options" (nothing was sent), "network" (nothing
            answers), "tls", "password" (one was asked for and there is none), or
            "startup" (the server answered and went away).
    """

    words: str
    sqlstate: str | None
    stage: str


class LoginRefusedError(Exception):
    """A login failed; internal, so that its words meet nobody unredacted."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__("login refused")


def log_in(
    conninfo: str, *, check_time: Callable[[], None]
) -> PQGenConn[pq.abc.PGconn]:
    """Make exactly one attempt to connect; a generator for psycopg's wait functions.

    Args:
        conninfo: What to connect to, names resolved.
        check_time: Called at every step; raises when the time is up.

    Raises:
        LoginRefusedError: It failed.
    """
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    try:
        return (yield from _steps(pgconn, check_time))
    except BaseException:
        pgconn.finish()
        raise


def _steps(
    pgconn: pq.abc.PGconn, check_time: Callable[[], None]
) -> Generator[tuple[int, Wait], Any, pq.abc.PGconn]:
    reached = pq.ConnStatus.STARTED
    if pgconn.status == pq.ConnStatus.BAD:
        raise LoginRefusedError(_refusal(pgconn, None))
    _set_verbosity(pgconn, _VERBOSE)
    while (status := pgconn.connect_poll()) != pq.PollingStatus.OK:
        if status == pq.PollingStatus.FAILED:
            raise LoginRefusedError(_refusal(pgconn, reached))
        reached = pq.ConnStatus(pgconn.status)
        wait = Wait.R if status == pq.PollingStatus.READING else Wait.W
        check_time()
        while not (yield pgconn.socket, wait):
            check_time()
    # Otherwise every later error's text would name a line of the server's source.
    _set_verbosity(pgconn, _DEFAULT)
    pgconn.nonblocking = 1
    return pgconn


def _refusal(pgconn: pq.abc.PGconn, reached: pq.ConnStatus | None) -> Refusal:
    text = pgconn.get_error_message()
    coded = list(_CODED.finditer(text))
    if coded:
        # With sslmode prefer or allow libpq has tried two ways; the answer to the
        # password counts, not that of the way the server does not want.
        found = next((m for m in coded if m["state"] != _NO_RULE), coded[-1])
        return Refusal(words=found["words"], sqlstate=found["state"], stage="startup")
    lines = text.strip().splitlines()
    # Where the attempt went is said by us; keep what comes after.
    words = lines[0].rsplit(" failed: ", 1)[-1].strip() if lines else "no reason given"
    return Refusal(words=words, sqlstate=None, stage=_stage(pgconn, reached))


def _stage(pgconn: pq.abc.PGconn, reached: pq.ConnStatus | None) -> str:
    if pgconn.needs_password:
        return "password"
    if reached is None:
        return "options"
    if reached is pq.ConnStatus.SSL_STARTUP:
        return "tls"
    if reached in {pq.ConnStatus.STARTED, pq.ConnStatus.MADE}:
        return "network"
    return "startup"


def _set_verbosity(pgconn: pq.abc.PGconn, verbosity: int) -> None:
    setter = _verbosity_setter()
    if setter is not None:
        # In every implementation, though not in the protocol class.
        setter(cast("Any", pgconn).pgconn_ptr, verbosity)


@functools.cache
def _verbosity_setter() -> Callable[[Any, int], int] | None:
    """Return libpq's PQsetErrorVerbosity, which psycopg does not offer.

    It must be that of the very library that made the connection: a look-up in the
    driver's own extension module searches what that is linked with. Where there is
    no such module, as with psycopg in pure Python, the library is found by name, as
    the driver does it. None where neither works, as on Windows: refusals then have
    no code.
    """
    module = sys.modules[pq.PGconn.__module__]
    path = getattr(module, "__file__", None)
    if path is None or path.endswith(".py"):
        path = pq.misc.find_libpq_full_path()
    try:
        setter = ctypes.CDLL(path).PQsetErrorVerbosity
    except (OSError, AttributeError):
        return None
    setter.argtypes = [ctypes.c_void_p, ctypes.c_int]
    setter.restype = ctypes.c_int
    return setter
