"""Checkout: the `with` block of every pool, and the ledger of who holds what."""

# A checkout and its pool are one thing in two classes.
# ruff: noqa: SLF001

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from harness.clock import NS_PER_S, SYSTEM_CLOCK
from harness.errors import CheckoutTimeoutError, TargetError

if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Self

    from harness.postgres.pool import PoolConfig, PoolStats
    from harness.postgres.server import ConnectArguments, Server


class LedgerPool(ABC):
    """What every pool implementation shares: checkout, ledger, context manager.

    A pool borrows and returns through `_borrow` and `_give_back`; the ledger
    records the caller's line, so that a leak can be named.

    Args:
        name: Name of the pool, for messages.
        config: Sizes and timeouts.
    """

    def __init__(self, *, name: str, config: PoolConfig) -> None:
        self.name = name
        self.config = config
        # None while a caller is asking, its line while it holds a connection.
        self._ledger: dict[Checkout, tuple[CodeType, int] | None] = {}
        self._closed = False

    def checkout(self) -> Checkout:
        """Borrow a psycopg connection for the length of a `with` block.

        A transaction left open at the end of the block is rolled back, never
        committed. Settings made with SET stay, as they do in both libraries.

        Raises:
            CheckoutTimeoutError: No connection became free in time.
            TargetError: A new connection was refused, with the server's reason.
        """
        return Checkout(self)

    def borrowed_at(self) -> list[str]:
        """Return `file:line in function` of every connection checked out now."""
        return [
            f"{held[0].co_filename}:{held[1]} in {held[0].co_qualname}"
            for held in list(self._ledger.values())
            if held
        ]

    @property
    def in_use(self) -> int:
        """Connections checked out now."""
        return sum(held is not None for held in list(self._ledger.values()))

    @property
    def waiting(self) -> int:
        """Callers asking for a connection now."""
        return sum(held is None for held in list(self._ledger.values()))

    @abstractmethod
    def stats(self) -> PoolStats:
        """Return the live state."""

    @abstractmethod
    def close(self) -> None:
        """Close every idle connection and refuse further checkouts."""

    @abstractmethod
    def _borrow(self) -> tuple[Any, Any]:
        """Return the library's own handle and the psycopg connection."""

    @abstractmethod
    def _give_back(self, handle: Any) -> None:
        """Return what `_borrow` gave as its handle."""

    def _timeout_error(self, *, since_ns: int) -> CheckoutTimeoutError:
        return CheckoutTimeoutError(
            pool_name=self.name,
            waited_s=(SYSTEM_CLOCK.monotonic_ns() - since_ns) / NS_PER_S,
            size_max=self.config.size_max,
            in_use=self.in_use,
            waiting=self.waiting,
        )

    def _closed_error(self) -> TargetError:
        return TargetError(f"pool {self.name!r} is closed")

    def __enter__(self) -> Self:
        """Return the pool; it is closed at the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()


class Checkout:
    """One `with` block. A class: a generator would cost another 0.5 us."""

    __slots__ = ("_handle", "_pool")

    def __init__(self, pool: LedgerPool) -> None:
        self._pool = pool
        self._handle: Any = None

    def __enter__(self) -> Any:
        """Borrow a connection and enter the caller's line in the ledger."""
        pool = self._pool
        ledger = pool._ledger
        ledger[self] = None
        try:
            self._handle, connection = pool._borrow()
        except BaseException:
            del ledger[self]
            raise
        # Only the line: a whole stack would cost more than the checkout.
        frame = sys._getframe(1)
        ledger[self] = (frame.f_code, frame.f_lineno)
        return connection

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the connection back and strike it from the ledger."""
        pool = self._pool
        try:
            pool._give_back(self._handle)
        finally:
            self._handle = None
            pool._ledger.pop(self, None)


def arguments_for(server: Server, config: PoolConfig) -> ConnectArguments:
    """Return arguments for one new pooled connection.

    Asked for at every physical connect, because a password may be a token that
    has been replaced since the last one.
    """
    arguments = server.connect_arguments()
    arguments["application_name"] = config.application_name
    # libpq counts whole seconds and reads 0 as "wait for ever".
    arguments["connect_timeout"] = max(2, round(config.connect_timeout_s))
    # A server behind a transaction pooler switches prepared statements off. The
    # pooler refuses logins with options, and a SET would reach other callers.
    is_pooled = arguments.get("prepare_threshold", 0) is None
    if config.statement_timeout_s and not is_pooled:
        # With the login, because a SET would cost every connect a round trip.
        limit = f"-c statement_timeout={round(config.statement_timeout_s * 1000)}"
        arguments["options"] = f"{arguments.get('options') or ''} {limit}".strip()
    return arguments


def prewarm_error(pool: LedgerPool, *, opened: int) -> TargetError:
    """Say that the pool could not be filled in time."""
    config = pool.config
    return TargetError(
        f"pool {pool.name!r} opened {opened} of {config.size_min} connections within "
        f"{config.prewarm_timeout_s:g} s; raise BENCHMARK_MAX_POOL_INIT_TIME, or use "
        "a smaller DB_POOL_SIZE"
    )
