"""`FaultProxy`: a network between any client and any server, which tests can spoil."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.child import ChildProcess
from harness.lakebase.standin.faults import Fault, Timed, read_timetable
from harness.lakebase.standin.plan import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultProxy(ChildProcess):
    """A TCP proxy on loopback, in a process of its own.

    Args:
        host: Where connections are passed on to.
        port: Its port.
        seed: Of jitter, and of which connections a fault hits.

    Attributes:
        host: Where clients connect.
        port: Its port.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        super().__init__(
            "harness.lakebase.standin.fault_service",
            {"host": host, "port": port, "seed": seed},
        )
        self.host = HOST
        self.port: int = self.ready["port"]

    def set(self, fault: Fault) -> None:
        """Be like this from now on."""
        self.ask("set", fault=dataclasses.asdict(fault))

    def heal(self) -> None:
        """Be healthy from now on."""
        self.set(Fault())

    def play(self, timetable: Iterable[Timed | dict[str, Any]]) -> None:
        """Begin a timetable now, in place of one that still plays.

        Raises:
            ConfigError: It is not in order, or a row is wrong.
        """
        rows = [t.to_mapping() if isinstance(t, Timed) else t for t in timetable]
        read_timetable(rows)
        self.ask("play", timetable=rows)

    def ledger(self) -> dict[str, Any]:
        """Return what happened: each fault with its time and the connections hit."""
        told: dict[str, Any] = self.ask("ledger")
        return told
