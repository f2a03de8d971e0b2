"""What becomes of a pool in a forked child: it stays with the parent."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from harness.errors import TargetError

if TYPE_CHECKING:
    from harness.postgres.slot_pool import SlotPool

_pools: weakref.WeakSet[SlotPool] = weakref.WeakSet()


class OrphanedEngine:
    """In place of a pool's engine in a forked child: touches no socket.

    The sockets are the parent's too. Whatever a child said on one, even goodbye,
    the server would take for the parent's word.
    """

    def __init__(self) -> None:
        # Kept, because a connection that nobody refers to would close itself.
        self._kept: list[Any] = []

    def open(self) -> NoReturn:
        """Refuse; a pool that came by fork opens nothing."""
        msg = "a pool that came by fork opens no connections"
        raise TargetError(msg)

    def close(self, connection: Any, handle: Any) -> None:
        """Keep it, open and unused, until this process ends."""
        self._kept.append((connection, handle))

    def clean(self, _connection: Any) -> bool:
        """Say that it is of no use here."""
        return False

    def is_alive(self, _connection: Any, *, timeout_s: float | None) -> bool:  # noqa: ARG002 - the protocol's
        """Say that it is of no use here."""
        return False

    def listen(self, _connection: Any, _signs: list[str]) -> None:
        """Hear nothing."""

    def inspect(self, _connection: Any) -> None:
        """Ask nothing."""

    def uptime_s(self, _connection: Any) -> float:
        """Ask nothing."""
        return 0.0


def watch(pool: SlotPool) -> None:
    """Have a pool given up in every child that is forked from now on."""
    _pools.add(pool)


def _give_up() -> None:
    for pool in _pools:
        pool.orphan(OrphanedEngine(), parent=os.getppid())


os.register_at_fork(after_in_child=_give_up)
